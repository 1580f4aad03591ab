//! `up` is killed at several stages and run again, the node and one of its programs are killed under a running cluster, and
//! after `down` the machine is as it was. Needs root; uses a state directory, a name and addresses of its own, so that the
//! usual sandbox may run meanwhile, and the usual cache.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use sojourn_e2e::sandbox::{Range, Settings, node};

const SANDBOX: &str = env!("CARGO_BIN_EXE_sandbox");
const STAGE_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_sandbox_that_is_killed_anywhere_comes_up_again_and_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let trial = Trial::new(state.path());
    trial.succeeds("prepare");
    let before = machine();

    // Interrupted before there is a node, and taken down at once.
    trial.up_killed_when(|trial| trial.settings.state.join("lock").exists());
    trial.succeeds("down");
    assert_unchanged(&before, &machine());

    // Interrupted again and again on the way, every run going on where the one before was killed.
    trial.up_killed_when(|trial| trial.node().is_some());
    let first_node = trial.node().expect("the node lives on without `up`");
    trial.up_killed_when(|trial| Path::new("/sys/class/net").join(&trial.settings.name).exists());
    trial.up_killed_when_it_says("loading localhost/sojourn/coredns");
    trial.up_killed_when(|trial| trial.reports_of("kube-scheduler"));
    trial.succeeds("up");
    trial.is_whole();
    assert_eq!(trial.node(), Some(first_node), "an interrupted `up` is completed, not repeated");

    // Up again changes nothing.
    trial.succeeds("up");
    assert_eq!(trial.node(), Some(first_node));

    // A program of the node ends: `status` says so, `up` starts anew and says why.
    let of_the_first_node = trial.processes_of_the_node();
    kill(trial.process_of("etcd"));
    trial.eventually("etcd is reported", |trial| trial.status().contains("etcd: ended with signal SIGKILL"));
    let said = trial.succeeds("up");
    assert!(said.contains("etcd ended with signal SIGKILL"), "{said}");
    trial.is_whole();
    assert_eq!(still_running(&of_the_first_node), []);

    // The node's first process ends: everything of it is gone with it.
    let second_node = trial.node().unwrap();
    assert_ne!(second_node, first_node);
    let of_the_second_node = trial.processes_of_the_node();
    kill(second_node.pid);
    trial.eventually("the node is gone", |trial| trial.node().is_none() && still_running(&of_the_second_node).is_empty());

    // And with a node that was interrupted on its way up again, whose record somebody deleted and whose name was changed.
    trial.up_killed_when(|trial| trial.reports_of("containerd"));
    fs::remove_file(trial.settings.state.join("node.lock")).unwrap();
    Settings { name: "sojourn-other".into(), ..trial.settings.clone() }.write().unwrap();
    trial.succeeds("down");
    assert_unchanged(&before, &machine());
    assert_eq!(trial.processes(), BTreeMap::new());
    trial.succeeds("down");
    assert!(!trial.settings.kubeconfig().exists());
}

/// A sandbox beside the usual one.
struct Trial {
    settings: Settings,
}

impl Trial {
    fn new(state: &Path) -> Self {
        let settings = Settings {
            name: "sojourn-trial".into(),
            state: state.to_owned(),
            link: Range::new([10, 79, 0, 0], 30),
            pods: Range::new([10, 246, 0, 0], 16),
            services: Range::new([10, 98, 0, 0], 16),
            ..Settings::from_environment().unwrap()
        };
        settings.write().unwrap();
        Self { settings }
    }

    fn sandbox(&self, word: &str) -> Command {
        let mut command = Command::new(SANDBOX);
        command.arg("--state").arg(&self.settings.state).arg(word).stdin(Stdio::null());
        command
    }

    /// Runs to the end and answers with what it said.
    fn succeeds(&self, word: &str) -> String {
        let Output { status, stdout, stderr } = self.sandbox(word).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stderr), String::from_utf8_lossy(&stdout));
        assert!(status.success(), "`sandbox {word}` ended with {status}:\n{said}");
        said
    }

    fn status(&self) -> String {
        String::from_utf8(self.sandbox("status").output().unwrap().stdout).unwrap()
    }

    /// Kills `up` as soon as the condition holds; it has to hold while `up` runs or be reached by it.
    fn up_killed_when(&self, reached: impl Fn(&Self) -> bool) {
        let mut up = self.sandbox("up").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        self.eventually("the stage is reached", |trial| reached(trial) || ended(&mut up));
        assert!(reached(self), "`up` ended before the stage");
        up.kill().unwrap();
        up.wait().unwrap();
    }

    fn up_killed_when_it_says(&self, words: &str) {
        let mut up = self.sandbox("up").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(up.stderr.take().unwrap());
        let said = stderr.lines().map_while(Result::ok).any(|line| line.contains(words));
        up.kill().unwrap();
        up.wait().unwrap();
        assert!(said, "`up` never said {words:?}");
    }

    fn node(&self) -> Option<node::Record> {
        node::living(&self.settings).unwrap()
    }

    fn reports_of(&self, component: &str) -> bool {
        self.node().is_some() && node::reports(&self.settings).iter().any(|report| report.name == component)
    }

    /// Every program runs, the node is ready, and a Service answers on the host.
    fn is_whole(&self) {
        node::check(&self.settings).unwrap();
        let mut kubectl = self.sandbox("kubectl");
        let nodes = kubectl.args(["get", "nodes", "--no-headers"]).output().unwrap();
        let nodes = String::from_utf8(nodes.stdout).unwrap();
        assert!(nodes.contains("sojourn-trial") && nodes.contains(" Ready "), "{nodes}");
        let jaeger = format!("{}:16686", self.settings.jaeger_service()).parse().unwrap();
        // kube-proxy may write the Service's rules a moment after the pod behind it is ready.
        let answers = |_: &Self| std::net::TcpStream::connect_timeout(&jaeger, Duration::from_secs(1)).is_ok();
        self.eventually("Jaeger answers on its Service's address", answers);
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + STAGE_LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in {} s: {what}", STAGE_LIMIT.as_secs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processes that are this sandbox's by their command line or their cgroup.
    fn processes(&self) -> BTreeMap<i32, String> {
        let state = self.settings.state.to_string_lossy().into_owned();
        let cgroup = format!("/{}/", self.settings.name);
        let ours = |pid: &i32| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = read("cmdline").replace('\0', " ");
            (line.contains(&state) || read("cgroup").contains(&cgroup)).then_some(line)
        };
        pids().into_iter().filter_map(|pid| Some((pid, ours(&pid)?))).collect()
    }

    /// Every process that shares a namespace with the node's first one, and those of the containers.
    fn processes_of_the_node(&self) -> Vec<node::Record> {
        let namespaces = namespaces_of(self.node().unwrap().pid);
        assert_eq!(namespaces.len(), 4, "a node has namespaces of its own");
        let shares = |pid: &i32| !namespaces_of(*pid).is_disjoint(&namespaces);
        let containers = self.processes();
        let belongs = |pid: &i32| shares(pid) || containers.contains_key(pid);
        pids().into_iter().filter(belongs).filter_map(node::Record::of).collect()
    }

    /// The host's number of one of the node's programs.
    fn process_of(&self, program: &str) -> i32 {
        let is_it = |record: &node::Record| {
            fs::read_to_string(format!("/proc/{}/comm", record.pid)).is_ok_and(|name| name.trim() == program)
        };
        self.processes_of_the_node().into_iter().find(is_it).unwrap_or_else(|| panic!("{program} does not run")).pid
    }
}

impl Drop for Trial {
    /// A test that fails must not leave a cluster behind.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("node:\n{}", fs::read_to_string(self.settings.log("node")).unwrap_or_default());
            self.sandbox("down").status().ok();
        }
    }
}

fn ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The four namespaces that a node has for itself.
fn namespaces_of(pid: i32) -> BTreeSet<String> {
    let name =
        |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok().map(|link| link.to_string_lossy().into_owned());
    ["net", "mnt", "pid", "uts"].into_iter().filter_map(name).collect()
}

fn still_running(processes: &[node::Record]) -> Vec<node::Record> {
    assert!(processes.len() > 10, "a whole node has etcd, Kubernetes, containerd and containers");
    processes.iter().copied().filter(|process| node::Record::of(process.pid) == Some(*process)).collect()
}

/// What a sandbox could leave behind on the machine, by kind.
fn machine() -> BTreeMap<&'static str, BTreeSet<String>> {
    let lines = |text: String| text.lines().map(|line| line.trim().to_owned()).collect::<BTreeSet<_>>();
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Counters and dates are no rules.
    let rules = said("iptables-save", &[]).lines().filter(|line| !line.starts_with(['#', ':'])).collect::<Vec<_>>().join("\n");
    let settings = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/hostname"]
        .into_iter()
        .chain(["kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward"])
        .map(|name| format!("{name} {}", fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap()));
    BTreeMap::from([
        ("mounts", fs::read_to_string("/proc/self/mounts").map(lines).unwrap()),
        ("links", fs::read_dir("/sys/class/net").unwrap().map(|entry| format!("{:?}", entry.unwrap().file_name())).collect()),
        ("routes", lines(said("ip", &["route", "show", "table", "all"]))),
        ("rules of the firewall", lines(rules)),
        ("settings of the kernel", settings.collect()),
        ("cgroups", lines(said("find", &["/sys/fs/cgroup", "-type", "d", "-name", "sojourn-trial*"]))),
        ("directories", lines(said("find", &["/run", "/var/lib", "/etc/cni", "/opt", "-maxdepth", "1"]))),
    ])
}

fn assert_unchanged(before: &BTreeMap<&'static str, BTreeSet<String>>, after: &BTreeMap<&'static str, BTreeSet<String>>) {
    for (kind, before) in before {
        let after = &after[kind];
        let (lost, left): (Vec<_>, Vec<_>) = (before.difference(after).collect(), after.difference(before).collect());
        assert!(lost.is_empty() && left.is_empty(), "{kind}: lost {lost:?}, left behind {left:?}");
    }
}
