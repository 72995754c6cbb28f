//! The one `SQLite` file of embedded mode: state, outbox and tables live in it together.
//!
//! Storage and sink share this room and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
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
    access: Access,
}

/// What may be done to the file.
#[derive(Debug, Clone)]
enum Access {
    Write(Arc<Mutex<Connection>>),
    /// Each reader opens it anew, and leaves its folder as it is.
    Read,
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
            access: Access::Write(Arc::new(Mutex::new(connection))),
        }))
    }

    /// The file that is there, to be read alone: nothing is created beside it, so that its folder need
    /// not be one that this user may write. `None` when there is no file. Blocks.
    pub fn read_only(folder: &Path) -> Result<Option<Arc<Self>>> {
        let path = folder.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let file = Self {
            folder: folder.to_owned(),
            path,
            access: Access::Read,
        };
        check_version(
            &file.path,
            file.with_blocking(|connection| version(connection))?,
        )?;
        Ok(Some(Arc::new(file)))
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
        let (access, path) = (self.access.clone(), self.path.clone());
        self.off_thread(move || access.run(&path, f)).await
    }

    /// Runs `f` on a connection of its own that cannot write, so that a long query holds nobody up.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (path, access) = (self.path.clone(), self.access.clone());
        self.off_thread(move || {
            if let Access::Read = access {
                return access.run(&path, f);
            }
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
        let done = self.access.run(&self.path, f);
        done.map_err(|error| explain(&self.path, &error))
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

impl Access {
    fn run<T>(
        &self,
        path: &Path,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match self {
            Self::Write(connection) => {
                f(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Self::Read => read_only(path, f),
        }
    }
}

/// Reads a file whose folder stays as it is.
///
/// | beside the file | how it is read |
/// |---|---|
/// | no log, or an empty one | as a file that nobody changes; when somebody did, the answer is refused |
/// | a log and its index | with both: a process works on the file, or was cut off |
/// | a log alone | as a copy, since `SQLite` would create the index |
fn read_only<T>(
    path: &Path,
    f: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let [log, index] = ["-wal", "-shm"].map(|suffix| beside(path, suffix));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let state = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.len(), file.modified().ok()))
    };
    if state(&log).is_none_or(|(length, _)| length == 0) {
        let before = state(path);
        let name = percent_encode(path.as_os_str().as_encoded_bytes(), URI_PATH);
        let uri = format!("file:{name}?immutable=1");
        let mut connection = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
        let answer = f(&mut connection);
        // Pages of before and after don't fit together, which looks like damage.
        if state(path) != before {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None));
        }
        return answer;
    }
    let copied = if index.exists() {
        None
    } else {
        let copied = Copied::of(path, &log);
        Some(copied.map_err(|error| {
            let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
            rusqlite::Error::SqliteFailure(failed, Some(format!("no copy to read: {error}")))
        })?)
    };
    let path = copied.as_ref().map_or(path, |copied| &copied.path);
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    f(&mut connection)
}

/// A file and its log, in a folder of their own for as long as this lives.
struct Copied {
    folder: PathBuf,
    path: PathBuf,
}

impl Copied {
    fn of(path: &Path, log: &Path) -> io::Result<Self> {
        let name = format!("sentinel-connector-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        let mut folders = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
        folders.create(&folder)?;
        let copied = Self {
            path: folder.join(FILE_NAME),
            folder,
        };
        fs::copy(path, &copied.path)?;
        fs::copy(log, beside(&copied.path, "-wal"))?;
        Ok(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A file that `SQLite` keeps beside another.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What stands as it is in the path of a `file:` URI.
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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
    check_version(path, version)?;
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

/// Refuses a file that a newer version wrote.
fn check_version(path: &Path, version: i64) -> Result<()> {
    if version > SCHEMA_VERSION {
        return Err(Error::config(format!(
            "`{}` has schema {version}, this version knows {SCHEMA_VERSION}: run the version that \
             wrote it, or a newer one",
            path.display()
        )));
    }
    Ok(())
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

/// A failure to read or write a file or folder beside the database, explained.
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
