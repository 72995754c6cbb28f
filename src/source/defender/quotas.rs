//! What the connections of a process share: how often each tenant may be asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::{Account, BY_MACHINE, EXPORT, GRAPH, HUNTING, MDE, XDR};
use crate::io::{clock::SharedClock, limiter::Limiter};

/// How many calls an API takes of one app in one tenant.
fn quotas(api: &str) -> &'static [(u32, Duration)] {
    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);
    match api {
        MDE => &[(100, MINUTE), (1_500, HOUR)],
        BY_MACHINE => &[(30, MINUTE), (1_000, HOUR)],
        EXPORT => &[(5, MINUTE), (20, HOUR)],
        XDR => &[(50, MINUTE), (1_500, HOUR)],
        GRAPH => &[(150, MINUTE)],
        HUNTING => &[(45, MINUTE)],
        _ => &[],
    }
}

/// Tenant, app and API; the app is empty where it does not matter.
type QuotaKey = (String, String, &'static str);

/// What the connections of a process share.
#[derive(Default)]
pub struct Quotas {
    /// One rate limit for each.
    limiters: Mutex<HashMap<QuotaKey, Limiter>>,
    /// Until when each tenant's share of hunting is used up.
    rests: Mutex<HashMap<String, Arc<Rest>>>,
}

/// Until when something has to rest.
#[derive(Default)]
pub(crate) struct Rest(Mutex<Option<DateTime<Utc>>>);

impl Rest {
    pub(crate) fn until(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, until: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Quotas {
    pub(super) fn rest(&self, tenant: &str) -> Arc<Rest> {
        let mut held = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(tenant.to_owned()).or_default())
    }

    pub(super) fn of(
        &self,
        account: &Account,
        api: &'static str,
        clock: &SharedClock,
    ) -> Arc<Limiter> {
        // Hunting is counted by tenant, whichever app asks.
        let client = Some(&account.client).filter(|_| api != HUNTING);
        let client = client.cloned().unwrap_or_default();
        let key = (account.tenant.clone(), client, api);
        let mut held = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = held
            .entry(key)
            .or_insert_with(|| Limiter::per_period(quotas(api), Arc::clone(clock)));
        Arc::new(limiter.beside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_belongs_to_tenant_app_and_api() {
        let account = |tenant: &str, client: &str| Account {
            tenant: tenant.to_owned(),
            client: client.to_owned(),
            mde_url: String::new(),
            mde_scope: String::new(),
            xdr_url: String::new(),
            xdr_scope: String::new(),
            graph_url: String::new(),
            graph_scope: String::new(),
            severities: Vec::new(),
            endpoint_alerts: false,
        };
        let clock: SharedClock = Arc::new(crate::io::clock::SystemClock);
        let quotas = Quotas::default();
        let of = |tenant, client, api| quotas.of(&account(tenant, client), api, &clock);
        let limiter = of("contoso", "app", MDE);
        assert!(limiter.shares_with(&of("contoso", "app", MDE)));
        for other in [
            of("fabrikam", "app", MDE),
            of("contoso", "another", MDE),
            of("contoso", "app", GRAPH),
        ] {
            assert!(!limiter.shares_with(&other));
        }
        // That of hunting is the tenant's, whichever app asks, and so is its share of time.
        assert!(of("contoso", "app", HUNTING).shares_with(&of("contoso", "another", HUNTING)));
        let rest = quotas.rest("contoso");
        assert!(Arc::ptr_eq(&rest, &quotas.rest("contoso")));
        assert!(!Arc::ptr_eq(&rest, &quotas.rest("fabrikam")));
    }
}
