//! The one `SQLite` file of embedded mode: state, outbox and tables live in it together.
//!
//! Storage and sink share this room and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::{Error, Result};

/// The file's name in its folder.
pub const FILE_NAME: &str = "connector.sqlite";

/// The schema of the file, kept in its `user_version`. A file of a newer one is refused.
pub const SCHEMA_VERSION: i64 = 1;

/// How long one process waits for another to finish writing.
const BUSY: Duration = Duration::from_secs(10);

/// The open file. One connection: `SQLite` has one writer at a time anyway.
#[derive(Debug)]
pub struct EmbeddedFile {
    folder: PathBuf,
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl EmbeddedFile {
    /// Opens `connector.sqlite` in `folder`, and creates both when they are missing. Blocks.
    pub fn open(folder: &Path) -> Result<Arc<Self>> {
        let path = folder.join(FILE_NAME);
        let lock = create_private(folder, &path)?;
        let connection = connect(&path)?;
        drop(lock);
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            path,
            connection: Arc::new(Mutex::new(connection)),
        }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the file lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `f` on the connection, off the async threads. When the caller goes away, `f` still runs
    /// to its end.
    pub async fn with<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        self.off_thread(move || f(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }

    /// Runs `f` on a connection of its own that cannot write, so that a long query holds nobody up.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path.clone();
        self.off_thread(move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            f(&mut connection)
        })
        .await
    }

    /// [`with`](Self::with) for whoever is not async yet.
    pub(crate) fn with_blocking<T>(
        &self,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        f(&mut connection).map_err(|error| explain(&self.path, &error))
    }

    /// Waits for the disk at every commit from now on.
    ///
    /// Needed only where this file has the rows and another store the cursors: see
    /// `synchronous` in [`open`](Self::open).
    pub async fn sync_every_commit(&self) -> Result<()> {
        self.with(|connection| connection.pragma_update(None, "synchronous", "full"))
            .await
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::task::spawn_blocking(f).await {
            Ok(result) => result.map_err(|error| explain(&self.path, &error)),
            Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            Err(_) => Err(Error::transient("the process is stopping")),
        }
    }
}

/// Creates the folder and an empty file, if they are missing: security data, nobody else's to read.
///
/// Returns a lock under which to open the file, since `SQLite`'s own locks don't cover its first
/// steps: the change to a write-ahead log fails when two try it at once.
fn create_private(folder: &Path, path: &Path) -> Result<fs::File> {
    let mut folders = fs::DirBuilder::new();
    let mut files = fs::OpenOptions::new();
    files.append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folders.mode(0o700);
        // SQLite gives the files beside it the same mode.
        files.mode(0o600);
    }
    folders
        .recursive(true)
        .create(folder)
        .map_err(|error| explain_io(folder, &error))?;
    let gate = folder.join("connector.lock");
    let lock = files
        .clone()
        .create(true)
        .open(&gate)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| explain_io(&gate, &error))?;
    // Never opened when it exists: to close it would end the locks that this process has on it.
    match files.create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(explain_io(path, &error)),
        _ => Ok(lock),
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let failed = |error| explain(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    // A transaction that reads first and writes later could not wait for another writer.
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let version = mark(&mut connection).map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(Error::config(format!(
            "`{}` has schema {version}, this version knows {SCHEMA_VERSION}: run the version that \
             wrote it, or a newer one",
            path.display()
        )));
    }
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(Error::config(format!(
            "the file system of `{}` cannot hold a write-ahead log: set CONNECTOR_DATA to a folder \
             on a local disk",
            path.display()
        )));
    }
    // NORMAL does not wait for the disk at each commit, so a power cut may take the last commits
    // back, always the newest first. State and tables are in the same file: rows that are lost take
    // the cursor that passed them along, and are read again.
    connection
        .pragma_update(None, "synchronous", "normal")
        .map_err(failed)?;
    // In KiB: what is written is seldom read again, and is held by the system as well.
    connection
        .pragma_update(None, "cache_size", -512)
        .map_err(failed)?;
    Ok(connection)
}

/// Writes our schema version into a new file. Returns the version that it has then.
fn mark(connection: &mut Connection) -> rusqlite::Result<i64> {
    let found = version(connection)?;
    if found != 0 {
        return Ok(found);
    }
    let change = connection.transaction()?;
    // Another process may have been first.
    if version(&change)? == 0 {
        change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    let found = version(&change)?;
    change.commit()?;
    Ok(found)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// What a failure of `SQLite` means for whoever runs us.
fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Error::transient(format!(
            "cannot write `{path}` ({error}), disk full? free space where `{path}` lies"
        )),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
        ) => Error::transient(format!(
            "another process keeps `{path}` busy ({error}); the next run tries again"
        )),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::config(format!(
                "cannot open `{path}` for writing ({error}): set CONNECTOR_DATA to a folder that \
                 this user may write"
            ))
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Error::config(format!(
            "`{path}` is damaged ({error}): move it away, with its `-wal` and `-shm`; the next run \
             starts with INITIAL_HISTORY"
        )),
        _ => Error::contract(format!("`{path}`: {error}")),
    }
}

/// The same for a file or folder beside it.
pub(crate) fn explain_io(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::transient(format!(
            "cannot create `{path}` ({error}): free space where it lies"
        )),
        _ => Error::config(format!(
            "cannot create `{path}` ({error}): set CONNECTOR_DATA to a folder that this user may \
             write"
        )),
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
