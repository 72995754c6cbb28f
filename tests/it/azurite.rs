//! The storage emulator, started once for all tests of a process, behind a wire that answers as Azure
//! does where the two differ.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use sentinel_connector::{
    io::{
        clock::{Clock, SystemClock},
        http::{Network, SharedTransport},
        wire::Wire,
    },
    simulator::tls::Authority,
    storage::azure::{Account, AccountSettings, AzureStorage, StorageSettings},
};

mod way;
mod wire;

pub(crate) use way::Way;
pub(crate) use wire::{QUEUE_READER, READERS};

/// How many tests can have an account of their own.
const ACCOUNTS: usize = 192;

pub(crate) struct Azurite {
    child: Child,
    /// Closed, at the latest, when this process ends; the emulator then ends too.
    _input: Option<ChildStdin>,
    wire: wire::Wire,
    protocol: &'static str,
    given: AtomicUsize,
}

impl Azurite {
    /// The one that all tests share. Each takes an account of its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Azurite> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("http", &[], network(), None))
    }

    /// One that takes access tokens, over https with this certificate and key.
    pub(crate) fn with_tokens(certificate: &Path, key: &Path) -> Self {
        // The emulator has a certificate of its own, which only the wire has to trust.
        let own = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let root = server.self_signed(&own).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        for (path, pem) in paths.iter().zip([&root, &own.serialize_pem()]) {
            std::fs::write(path, pem).unwrap();
        }
        let [inner, inner_key] = paths.each_ref().map(|path| path.to_str().unwrap());
        let more = ["--oauth", "basic", "--cert", inner, "--key", inner_key];
        let network = Arc::new(Network::loopback(root.as_bytes()).unwrap());
        let shown = [certificate, key].map(|path| std::fs::read(path).unwrap());
        Self::start("https", &more, network, Some(shown))
    }

    /// # Panics
    /// When it does not start; the text says what to do.
    fn start(
        protocol: &'static str,
        more: &[&str],
        network: SharedTransport,
        shown: wire::Shown,
    ) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        assert!(
            tests.join("node_modules/azurite").exists(),
            "the storage emulator is missing: run `npm ci --prefix tests`"
        );
        // All at once, so that they differ.
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [tables, blobs, queues] = ports.map(|port| port.local_addr().unwrap().port());
        let accounts: Vec<String> = (0..ACCOUNTS)
            .map(|at| format!("{}:{}", name(at), key(at)))
            .collect();
        let mut child = Command::new("node")
            .arg(tests.join("azurite.js"))
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .arg("--inMemoryPersistence")
            .args(["--tablePort", &tables.to_string()])
            .args(["--blobPort", &blobs.to_string()])
            .args(["--queuePort", &queues.to_string()])
            .args(more)
            .env("AZURITE_ACCOUNTS", accounts.join(";"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run `node` ({error}): install Node.js, then `npm ci --prefix tests`")
            });
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let up = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("Table service is successfully listening"));
        if !up {
            let mut text = String::new();
            drop(child.stderr.take().unwrap().read_to_string(&mut text));
            panic!("the storage emulator did not start: `npm ci --prefix tests`, then: {text}");
        }
        // It stops when nobody reads what it writes.
        std::thread::spawn(move || lines.for_each(drop));
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let emulator = wire::Emulator {
            network,
            tables: format!("{protocol}://127.0.0.1:{tables}"),
            blobs: format!("{protocol}://127.0.0.1:{blobs}"),
            queues: format!("{protocol}://127.0.0.1:{queues}"),
        };
        Self {
            child,
            _input: input,
            wire: wire::Wire::to(emulator, shown),
            protocol,
            given: AtomicUsize::new(0),
        }
    }

    /// The settings of an account that no other test uses.
    pub(crate) fn settings(&self) -> AccountSettings {
        parsed(&self.fresh())
    }

    /// The connection string of an account that no other test uses.
    pub(crate) fn fresh(&self) -> String {
        let (name, key) = self.unused();
        self.connection_string(&name, &key)
    }

    /// Name and key of an account that no other test uses.
    pub(crate) fn unused(&self) -> (String, String) {
        let at = self.given.fetch_add(1, Ordering::Relaxed);
        assert!(at < ACCOUNTS, "more tests than accounts");
        (name(at), key(at))
    }

    pub(crate) fn connection_string(&self, name: &str, key: &str) -> String {
        let (protocol, wire) = (self.protocol, &self.wire);
        let (tables, blobs, queues) = (wire.tables, wire.blobs, wire.queues);
        format!(
            "AccountName={name};AccountKey={key};\
             TableEndpoint={protocol}://127.0.0.1:{tables}/{name};\
             BlobEndpoint={protocol}://127.0.0.1:{blobs}/{name};\
             QueueEndpoint={protocol}://127.0.0.1:{queues}/{name}"
        )
    }

    /// An account that no other test uses.
    pub(crate) fn account(&self) -> Account {
        signed_in(self.settings())
    }

    /// A store that no other test uses, and a second handle on it.
    pub(crate) fn storage(&self) -> [AzureStorage; 2] {
        let account = self.account();
        [(); 2].map(|()| AzureStorage::new(account.clone(), wire()))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn name(at: usize) -> String {
    format!("test{at:03}")
}

fn key(at: usize) -> String {
    STANDARD.encode(format!("a key of the emulator's, number {at}"))
}

pub(crate) fn parsed(connection_string: &str) -> AccountSettings {
    let settings = StorageSettings {
        connection_string: Some(connection_string),
        ..StorageSettings::default()
    };
    AccountSettings::parse(&settings).unwrap().unwrap()
}

pub(crate) fn signed_in(settings: AccountSettings) -> Account {
    settings
        .sign_in(|_| unreachable!("there is a key"))
        .unwrap()
}

/// The network, and real time.
pub(crate) fn wire() -> Wire {
    Wire {
        transport: network(),
        clock: Arc::new(SystemClock),
        random: Arc::new(|| 0.5),
    }
}

pub(crate) fn network() -> SharedTransport {
    static ROOT: OnceLock<String> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let authority = Authority::generate(SystemClock.now()).unwrap();
        authority.pem().to_owned()
    });
    Arc::new(Network::loopback(root.as_bytes()).unwrap())
}
