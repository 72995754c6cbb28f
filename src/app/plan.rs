//! Which lanes are put on the queue, and what a message says: decisions, from what is known of streams
//! and of messages.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    core::position::window::delta,
    error::{Error, Result},
};

/// How long a message waits before it vanishes. A lane whose message was lost, or vanished, is put on the
/// queue again no later than this, and by the next plan once the queue is empty.
///
/// Longer than five tries with the five minutes of `visibilityTimeout` in `host.json` between them, so
/// that one which ends its worker each time becomes a poison message, and is told of.
pub const LIFE: Duration = Duration::from_hours(1);

/// How often the Functions host hands out a message before it moves it to the poison queue:
/// `maxDequeueCount` of `host.json`.
pub const MOST_TRIES: u64 = 5;

/// The one shape of a message so far.
const VERSION: u64 = 1;

/// A message of the queue: the connections of one lane, which one worker pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneMessage {
    version: u64,
    /// The folder of the function whose streams are pulled.
    pub function: String,
    /// Their connections. The first one names the lane.
    pub connections: Vec<String>,
    /// When it was planned.
    pub planned: DateTime<Utc>,
    /// The plan that it is of, which the note of its lane names too.
    pub plan: String,
}

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadMessage {
    /// One of ours.
    Lane(LaneMessage),
    /// One of another version of the program, by its number. The lane is planned again.
    OtherVersion(u64),
}

impl LaneMessage {
    /// A message for the lane of these connections.
    pub(super) fn new(
        function: &str,
        connections: Vec<String>,
        planned: DateTime<Utc>,
        plan: String,
    ) -> Self {
        Self {
            version: VERSION,
            function: function.to_owned(),
            connections,
            planned,
            plan,
        }
    }

    /// The lane: the name of its first connection.
    pub fn lane(&self) -> &str {
        self.connections.first().map_or("", String::as_str)
    }

    /// What a message says. Members that are not known are somebody's addition, and left alone.
    ///
    /// # Errors
    /// `Contract`, for what no version has put there.
    pub fn read(message: &Value) -> Result<ReadMessage> {
        let strange = || {
            Error::contract(format!(
                "the message is no lane of connections: nothing is pulled for it, and after \
                 {MOST_TRIES} tries the host moves it to the poison queue; nothing is lost by \
                 deleting it there"
            ))
        };
        match message.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {
                let read = Self::deserialize(message).map_err(|_| strange())?;
                if read.connections.is_empty() {
                    return Err(strange());
                }
                Ok(ReadMessage::Lane(read))
            }
            Some(other) => Ok(ReadMessage::OtherVersion(other)),
            None => Err(strange()),
        }
    }
}

/// A stream, as far as a plan goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its last run ended as long ago as its pace says, or left something to do.
    pub(super) is_due: bool,
    /// A lease holds it now.
    pub(super) is_held: bool,
}

/// What becomes of a lane in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneFate {
    /// A message is put on the queue for it.
    Queued,
    /// None of its streams is due.
    NotDue,
    /// Somebody works on it.
    Held,
    /// Its message waits.
    Waits,
}

/// Decides on a lane by its streams and by when its last message was planned, if nobody has settled that
/// one. Where the queue is empty none waits, whatever a note says: the service never tells less messages
/// than there are.
pub(super) fn fate(
    streams: &[Standing],
    planned: Option<DateTime<Utc>>,
    queue_is_empty: bool,
    now: DateTime<Utc>,
) -> LaneFate {
    // By a clock that ran ahead it would wait for ever.
    let is_young = planned.is_some_and(|planned| (now - planned).abs() < delta(LIFE));
    match () {
        () if !streams.iter().any(|stream| stream.is_due) => LaneFate::NotDue,
        () if streams.iter().any(|stream| stream.is_held) => LaneFate::Held,
        () if is_young && !queue_is_empty => LaneFate::Waits,
        () => LaneFate::Queued,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-11-29T05:20:00Z".parse().unwrap()
    }

    fn message() -> LaneMessage {
        LaneMessage::new("EsetTimer", vec!["a".to_owned()], start(), "p".to_owned())
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_with_what_others_have_added() {
        let mut value = json!(message());
        assert_eq!(
            LaneMessage::read(&value).unwrap(),
            ReadMessage::Lane(message())
        );
        value["priority"] = json!(3);
        assert_eq!(
            LaneMessage::read(&value).unwrap(),
            ReadMessage::Lane(message())
        );
        let newer = json!({ "version": 2, "tenants": [1] });
        assert_eq!(
            LaneMessage::read(&newer).unwrap(),
            ReadMessage::OtherVersion(2)
        );
    }

    #[test]
    fn what_no_version_has_put_there_is_refused() {
        let mut nobody = json!(message());
        nobody["connections"] = json!([]);
        let mut wrong = json!(message());
        wrong["connections"] = json!("a");
        for strange in [
            json!(null),
            json!("hello"),
            json!({ "connection": "a" }),
            json!({ "version": "1" }),
            json!({ "version": 1 }),
            nobody,
            wrong,
        ] {
            let error = LaneMessage::read(&strange).unwrap_err().to_string();
            assert!(error.contains("poison queue"), "{strange}: {error}");
        }
    }

    #[test]
    fn a_lane_is_queued_when_a_stream_of_it_is_due_and_nobody_has_it() {
        let standing = |is_due, is_held| Standing { is_due, is_held };
        let (rests, due, held) = (
            standing(false, false),
            standing(true, false),
            standing(true, true),
        );
        let before = |minutes| Some(start() - TimeDelta::minutes(minutes));
        for (streams, planned, is_empty, expected) in [
            (vec![], None, true, LaneFate::NotDue),
            (vec![rests, rests], None, true, LaneFate::NotDue),
            (vec![rests, due], None, false, LaneFate::Queued),
            (vec![due, held], None, false, LaneFate::Held),
            (vec![due], before(59), false, LaneFate::Waits),
            (vec![due], before(60), false, LaneFate::Queued),
            (vec![due], before(1), true, LaneFate::Queued),
            // By a clock that ran ahead.
            (vec![due], before(-30), false, LaneFate::Waits),
            (vec![due], before(-90), false, LaneFate::Queued),
        ] {
            let fate = fate(&streams, planned, is_empty, start());
            assert_eq!(fate, expected, "{streams:?} {planned:?} {is_empty}");
        }
    }

    /// What may happen to one lane.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Tick,
        /// A worker takes its message and holds the lease.
        Take,
        /// The worker ends; it settles note and message, and the stream rests for a while.
        End,
        /// The worker is killed: lease, note and message stay until their time.
        Kill,
        /// Somebody empties the queue, or the message is put in nowhere.
        Lose,
        /// Another lane's message comes or goes.
        Other(bool),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => Just(Event::Tick),
            2 => Just(Event::Take),
            2 => Just(Event::End),
            1 => Just(Event::Kill),
            1 => Just(Event::Lose),
            1 => any::<bool>().prop_map(Event::Other),
        ];
        prop::collection::vec(event, 1..120)
    }

    #[derive(Default)]
    struct Model {
        /// When each message of the lane was put in; those under way are among them.
        messages: Vec<DateTime<Utc>>,
        note: Option<DateTime<Utc>>,
        held_until: Option<DateTime<Utc>>,
        works: bool,
        rests_until: Option<DateTime<Utc>>,
        others: bool,
    }

    proptest! {
        #[test]
        fn a_lane_has_one_message_at_most_and_is_never_left_alone_longer_than_a_message_lives(
            events in events()
        ) {
            let (lease, every) = (TimeDelta::seconds(270), TimeDelta::seconds(270));
            let mut now = start();
            let mut model = Model::default();
            // Since when it is due and neither has a message nor is worked on.
            let mut alone: Option<DateTime<Utc>> = None;
            for event in events {
                match event {
                    Event::Tick => {
                        now += TimeDelta::minutes(5);
                        model.messages.retain(|at| now - *at < delta(LIFE));
                        if model.works && model.held_until.is_some_and(|until| until <= now) {
                            // No run outlives its lease.
                            (model.works, model.held_until) = (false, None);
                        }
                        let standing = Standing {
                            is_due: model.rests_until.is_none_or(|until| until <= now),
                            is_held: model.held_until.is_some_and(|until| until > now),
                        };
                        let is_empty = model.messages.is_empty() && !model.others;
                        let fate = fate(&[standing], model.note, is_empty, now);
                        if fate == LaneFate::Queued {
                            prop_assert!(model.messages.is_empty(), "a second message");
                            model.messages.push(now);
                            model.note = Some(now);
                        }
                        let left = standing.is_due && !standing.is_held && model.messages.is_empty();
                        alone = if left { alone.or(Some(now)) } else { None };
                        let since = alone.unwrap_or(now);
                        prop_assert!(now - since < delta(LIFE), "left alone since {since}");
                    }
                    Event::Take if !model.messages.is_empty() && model.held_until.is_none_or(|until| until <= now) => {
                        (model.works, model.held_until) = (true, Some(now + lease));
                    }
                    Event::End if model.works => {
                        model.messages.clear();
                        model.note = None;
                        (model.works, model.held_until) = (false, None);
                        model.rests_until = Some(now + every);
                    }
                    Event::Kill => model.works = false,
                    Event::Lose => model.messages.clear(),
                    Event::Other(there) => model.others = there,
                    Event::Take | Event::End => {}
                }
            }
        }
    }
}
