//! Who holds leases, and whether that process still lives.
//!
//! Each store locks a file of its own for as long as it lives. The operating system frees the lock
//! when the process ends, however it ends, so that the leases of a killed process are free at once.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    embedded::explain_io,
    error::{Error, Result},
};

/// What a run may put behind an owner's name, with a name of its own: only what stands before it
/// names the process.
const RUN: char = '/';

const SUFFIX: &str = ".lock";

/// The lock of one living store.
#[derive(Debug)]
pub(super) struct Owner {
    name: String,
    path: PathBuf,
    _lock: File,
}

impl Owner {
    /// A new owner in `folder`, whose dead ones are cleared away.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| explain_io(folder, &error))?;
        clear(folder);
        let mut tries = 16;
        loop {
            tries -= 1;
            let name = format!(
                "{}-{}-{:016x}",
                host(),
                std::process::id(),
                rand::random::<u64>()
            );
            let path = path_of(folder, &name);
            match locked(&path) {
                Ok(Some(lock)) => {
                    return Ok(Self {
                        name,
                        path,
                        _lock: lock,
                    });
                }
                Ok(None) if tries > 0 => {}
                Ok(None) => {
                    return Err(Error::transient(format!(
                        "cannot keep a lock in `{}`: other processes take it for a dead one's",
                        folder.display()
                    )));
                }
                Err(error) => return Err(explain_io(&path, &error)),
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True when `owner` is a name of this folder whose process has ended.
    pub(super) fn is_gone(&self, owner: &str) -> bool {
        let name = owner.split(RUN).next().unwrap_or_default();
        // A name that this store cannot have given out is not ours to judge, nor a path to follow.
        if name == self.name || !is_name(name) {
            return false;
        }
        self.path
            .parent()
            .is_some_and(|folder| is_dead(&path_of(folder, name)))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Removed while it is still locked, as `locked` expects. What stays is cleared later.
        drop(fs::remove_file(&self.path));
    }
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SUFFIX}"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Creates the file and locks it, or `None` when somebody found it before it was locked.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().append(true).create_new(true).open(path)?;
    match file.try_lock() {
        // Only who holds the lock removes the file. If it is there now, it stays.
        Ok(()) => Ok(path.try_exists()?.then_some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// True when the file is missing, or nobody holds it; then it is removed.
fn is_dead(path: &Path) -> bool {
    match File::options().append(true).open(path) {
        Ok(file) if file.try_lock().is_ok() => {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "a stale lock file stays");
            }
            true
        }
        Ok(_) => false,
        // Anything else proves nothing: the lease then ends at its time.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            is_dead(&path);
        }
    }
}

/// The machine's name, for whoever wonders which one holds a lease.
fn host() -> String {
    let name: String = fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    if name.is_empty() {
        "local".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_is_not_gone_and_a_dropped_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (
            Owner::new(folder.path()).unwrap(),
            Owner::new(folder.path()).unwrap(),
        );
        assert_ne!(one.name(), two.name());
        assert!(!one.is_gone(one.name()) && !two.is_gone(one.name()));
        assert!(!two.is_gone(&format!("{}/run-1", one.name())));
        let name = one.name().to_owned();
        drop(one);
        assert!(two.is_gone(&name));
        assert!(two.is_gone(&format!("{name}/run-1")));
    }

    #[test]
    fn the_file_of_a_dead_process_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let dead = |name: &str| {
            let path = path_of(folder.path(), name);
            fs::write(&path, "").unwrap();
            path
        };
        let first = dead("local-1-00");
        let one = Owner::new(folder.path()).unwrap();
        assert!(!first.exists());
        let second = dead("local-2-00");
        assert!(one.is_gone("local-2-00"));
        assert!(!second.exists());
        assert!(one.path.exists());
    }

    #[test]
    fn a_foreign_name_proves_nothing_and_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside.lock");
        fs::write(&outside, "").unwrap();
        let one = Owner::new(&folder.path().join("owners")).unwrap();
        for name in ["", "/", "../outside", "..", "a b"] {
            assert!(!one.is_gone(name), "{name:?}");
        }
        assert!(outside.exists());
    }

    #[test]
    fn an_owner_whose_file_was_deleted_still_lives_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let one = Owner::new(folder.path()).unwrap();
        fs::remove_file(&one.path).unwrap();
        assert!(!one.is_gone(one.name()));
    }

    #[test]
    fn owners_that_come_while_others_clear_stay_alive() {
        // A race is lost only now and then.
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let start = std::sync::Barrier::new(8);
            let owners = std::thread::scope(|scope| {
                let coming = [(); 8].map(|()| {
                    scope.spawn(|| {
                        start.wait();
                        Owner::new(folder.path())
                    })
                });
                coming.map(|owner| owner.join().unwrap().unwrap())
            });
            for owner in &owners {
                assert!(owner.path.exists());
                assert!(owners.iter().all(|other| !other.is_gone(owner.name())));
            }
        }
    }
}
