//! Nodes as processes that verify each other by a secret: they form a cluster, bear a loss, exchange the secret,
//! and let nobody else in.

mod support;

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use support::{Directory, assert_refused, mainspring, run};

/// So often a node that is not let in is refused before it counts what was said.
const SEVERAL_TRIES: usize = 3;

#[test]
fn a_secret_is_made_once_and_for_its_owner_alone() {
    let directory = Directory::new();
    let path = directory.path().join("cluster.secret");
    let output = run(&["cluster", "secret"], directory.path());
    assert!(output.status.success(), "{output:?}");
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    assert_eq!(made["file"], "cluster.secret");
    let text = fs::read_to_string(&path).expect("it is there");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(text.trim_end()));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = run(&["cluster", "secret"], directory.path());
    assert_refused(&again, 1, "cannot make cluster.secret: the file is there already");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), text);

    let check = |secret: &str, more: &[&str]| {
        let mut arguments = vec!["serve", "--check-config", "--node-id", "1", "--cluster-secret"];
        arguments.push(secret);
        arguments.extend(more);
        run(&arguments, directory.path())
    };
    // Addresses that others reach need no other word.
    let voters = ["--voters", "1@one.example:19092,2@two.example:19092"];
    let checked = check("cluster.secret", &voters);
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(checked["cluster_secrets"][0], made["fingerprint"]);
    assert_refused(&check("nothing", &voters), 3, "mainspring cluster secret");
    assert_refused(&check("cluster.secret", &[]), 2, "this node is alone");
    assert_refused(&check(text.trim_end(), &voters), 2, "not the name of a file");
    fs::write(directory.path().join("half"), &text[..60]).expect("it is written");
    fs::set_permissions(directory.path().join("half"), Permissions::from_mode(0o600))
        .expect("it is ours");
    assert_refused(&check("half", &voters), 2, "line 1 is no cluster secret");
    fs::set_permissions(&path, Permissions::from_mode(0o604)).expect("it is ours");
    assert_refused(&check("cluster.secret", &voters), 5, "chmod 600");
    let bare = ["serve", "--check-config", "--node-id", "1", voters[0], voters[1]];
    assert_refused(&run(&bare, directory.path()), 2, "mainspring cluster secret");
}

#[test]
fn three_nodes_with_a_secret_bear_a_loss_and_let_nobody_else_in() {
    let mut cluster = Cluster::new(3);
    cluster.level = "debug";
    let (ours, other) = (cluster.secret("ours"), cluster.secret("other"));
    cluster.start_all(&[&ours]);
    cluster.produce(50);
    cluster.kill(3);
    cluster.produce(50);

    // Another secret: both sides say it once each, however often it is tried.
    let told = cluster.lines(1).len();
    let told_two = cluster.lines(2).len();
    cluster.spawn(3, &[&other]);
    cluster.wait_until_refused(1, told);
    cluster.wait_until_refused(2, told_two);
    let said = cluster.lines(3);
    for node in [1, 2] {
        let whom = format!("node {node} at 127.0.0.1:");
        let about: Vec<_> = said.iter().filter(|line| line.contains(&whom)).collect();
        let secrets = about.iter().filter(|line| line.contains("cluster secret"));
        assert_eq!(secrets.count(), 1, "{said:#?}");
    }
    let here = cluster.lines(1).split_off(told);
    assert!(here.iter().any(|line| line.contains("a peer at 127.0.0.1 refuses")), "{here:#?}");
    assert!(here.iter().filter(|line| line.contains("cluster secret")).count() <= 3, "{here:#?}");
    cluster.produce(50);
    cluster.kill(3);

    // None at all.
    let told = cluster.lines(1).len();
    let told_two = cluster.lines(2).len();
    cluster.spawn(3, &[]);
    cluster.wait_until_refused(1, told);
    cluster.wait_until_refused(2, told_two);
    let said = cluster.lines(3);
    let secured =
        said.iter().filter(|line| line.contains("has a cluster secret and this node has none"));
    assert!((2..=3).contains(&secured.count()), "{said:#?}");
    let here = cluster.lines(1).split_off(told);
    assert!(here.iter().any(|line| line.contains("speaks without TLS")), "{here:#?}");
    assert!(here.iter().filter(|line| line.contains("cluster secret")).count() <= 3, "{here:#?}");
    cluster.produce(50);
    cluster.kill(3);

    // Programs that are no nodes.
    let hello = [0, 0, 0, 10, 0x79, 0x18, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(cluster.ask_peer(1, &hello), [0x15, 3, 3, 0, 2, 2, 70], "no byte of an answer");
    let mut garbage = vec![0x16, 3, 1, 0x40, 0];
    garbage.extend((0..2000).map(|n| (n * 7 % 251) as u8));
    cluster.ask_peer(1, &garbage);
    let silent = TcpStream::connect(("127.0.0.1", cluster.peers[0])).expect("it listens");
    cluster.produce(50);
    drop(silent);

    // The right one again.
    cluster.spawn(3, &[&ours]);
    cluster.wait_until_ready(3);
    cluster.wait_until_healthy();
    cluster.kill(1);
    cluster.produce(50);
    assert_eq!(cluster.consumed(), 300);
}

#[test]
fn a_secret_is_exchanged_node_by_node_while_the_cluster_serves() {
    let mut cluster = Cluster::new(3);
    let (old, new) = (cluster.secret("old"), cluster.secret("new"));
    // Two lines in one file are as two files.
    let both = cluster.directory.path().join("both");
    let text = [&new, &old].map(|path| fs::read_to_string(path).expect("it is there")).concat();
    fs::write(&both, text).expect("it is written");
    fs::set_permissions(&both, Permissions::from_mode(0o600)).expect("it is ours");
    cluster.start_all(&[&old]);
    cluster.produce(10);
    let mut total = 10;
    let rounds: [&[&Path]; 3] = [&[&old, &new], &[&both], &[&new]];
    for secrets in rounds {
        for node in 1..=3 {
            cluster.stop(node);
            cluster.produce(10);
            cluster.spawn(node, secrets);
            cluster.wait_until_ready(node);
            cluster.wait_until_healthy();
            total += 10;
        }
    }
    for node in 1..=3 {
        let said = cluster.lines(node);
        let bad = |line: &&String| line.contains("refuse") || line.contains("without TLS");
        assert_eq!(said.iter().find(bad), None);
    }
    assert_eq!(cluster.consumed(), total);
}

struct Cluster {
    directory: Directory,
    clients: Vec<u16>,
    peers: Vec<u16>,
    running: Vec<Option<Node>>,
    /// What nodes log.
    level: &'static str,
}

struct Node {
    child: Child,
    ready: BufReader<std::process::ChildStdout>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    fn new(count: usize) -> Self {
        let mut ports = free_ports(2 * count);
        let peers = ports.split_off(count);
        let running = peers.iter().map(|_| None).collect();
        Self { directory: Directory::new(), clients: ports, peers, running, level: "info" }
    }

    fn secret(&self, name: &str) -> PathBuf {
        let output = run(&["cluster", "secret", "--out", name], self.directory.path());
        assert!(output.status.success(), "{output:?}");
        self.directory.path().join(name)
    }

    fn spawn(&mut self, id: usize, secrets: &[&Path]) {
        let voters: Vec<String> =
            self.peers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect();
        let mut command = mainspring(&["serve", "--console", "off", "--voters", &voters.join(",")]);
        command.env("MAINSPRING_LOG", self.level);
        command.arg("--node-id").arg(id.to_string());
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.clients[id - 1]));
        command.arg("--data-dir").arg(self.directory.path().join(format!("data-{id}")));
        for secret in secrets {
            command.arg("--cluster-secret").arg(secret);
        }
        let log = File::create(self.log(id)).expect("it is made");
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the node starts");
        let ready = BufReader::new(child.stdout.take().expect("it is piped"));
        self.running[id - 1] = Some(Node { child, ready });
    }

    fn start_all(&mut self, secrets: &[&Path]) {
        let nodes = 1..=self.peers.len();
        nodes.clone().for_each(|id| self.spawn(id, secrets));
        nodes.for_each(|id| self.wait_until_ready(id));
        self.wait_until_healthy();
    }

    fn wait_until_ready(&mut self, id: usize) {
        let mut line = String::new();
        let node = self.running[id - 1].as_mut().expect("it runs");
        node.ready.read_line(&mut line).expect("it says that it is ready");
        assert!(line.contains("\"ready\""), "{line:?}: {:#?}", self.lines(id));
    }

    fn wait_until_healthy(&self) {
        let bootstrap = self.bootstrap();
        for _ in 0..200 {
            let arguments = ["cluster", "health", "--bootstrap", &bootstrap];
            if run(&arguments, self.directory.path()).status.success() {
                return;
            }
            pause(Duration::from_millis(100));
        }
        panic!("the cluster does not become whole: {:#?}", self.lines(1));
    }

    /// Waits until a node has tried node 3 in vain several times, behind the lines that it had said.
    fn wait_until_refused(&self, id: usize, told: usize) {
        for _ in 0..600 {
            let said = self.lines(id).split_off(told);
            let refused = said.iter().filter(|line| line.contains("the handshake with node 3 "));
            if refused.count() >= SEVERAL_TRIES {
                return;
            }
            pause(Duration::from_millis(50));
        }
        panic!("node 3 is not tried: {:#?}", self.lines(id));
    }

    fn kill(&mut self, id: usize) {
        drop(self.running[id - 1].take().expect("it runs"));
    }

    fn stop(&mut self, id: usize) {
        let mut node = self.running[id - 1].take().expect("it runs");
        let pid = node.child.id().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.expect("kill is there").success());
        assert!(node.child.wait().expect("it is our child").success());
    }

    fn log(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("log-{id}"))
    }

    /// Returns what a node has said since it was started last.
    fn lines(&self, id: usize) -> Vec<String> {
        let text = fs::read_to_string(self.log(id)).expect("it is there");
        text.lines().map(str::to_owned).collect()
    }

    fn bootstrap(&self) -> String {
        let places: Vec<String> =
            self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        places.join(",")
    }

    /// Writes records, each of which is answered by the in-sync replicas.
    fn produce(&self, count: usize) {
        let mut child = mainspring(&["produce", "orders", "--bootstrap", &self.bootstrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut input = child.stdin.take().expect("it is piped");
        for n in 0..count {
            writeln!(input, "order {n} {}", "x".repeat(2000)).expect("it reads");
        }
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn consumed(&self) -> usize {
        let bootstrap = self.bootstrap();
        let arguments =
            ["consume", "orders", "-o", "start", "--until-end", "--bootstrap", &bootstrap];
        let output = run(&arguments, self.directory.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().count()
    }

    /// Sends bytes to a node's listener for peers, and returns all that comes back until it is closed.
    fn ask_peer(&self, id: usize, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.peers[id - 1])).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it is a socket");
        stream.write_all(bytes).expect("it is connected");
        let mut said = Vec::new();
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        said
    }
}

#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Finds ports below those that systems give to outgoing connections.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 500) as u16 * 20;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
