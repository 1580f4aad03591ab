//! The node's first process. It is process 1 of its namespaces: when it dies, the kernel kills every process of the node
//! and takes its mounts and network with them. It starts the node's programs, reaps what they leave, and writes down what
//! ended; it restarts nothing. Blocking I/O; says what it does in `log/node.log`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::wait::{WaitStatus, waitpid},
    unistd::setsid,
};

use super::{Plan, Record, Report, components::Component, layout, root};
use crate::sandbox::{
    host::cgroup,
    settings::{Settings, write_whole},
};

/// How long the first process waits for what `up` or another node has to do.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Where the node's programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Settings of the whole machine's kernel that the kubelet would change. It gets copies.
const MACHINE_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Makes the namespaces and starts the first process in them; returns at once.
pub fn begin(state: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)
        .context("cannot make the node's namespaces")?;
    let log = File::create(state.join("log/node.log"))?;
    // It goes on without us: nobody waits for this child here.
    let _first = Command::new("/proc/self/exe")
        .arg0("sandbox")
        .args(["node", "first"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the node's first process")?;
    Ok(())
}

/// The first process itself; returns only when the node cannot go on.
pub fn first(state: &Path) -> Result<()> {
    setsid().context("cannot leave the session of whoever started the node")?;
    let Plan { settings, components, .. } = Plan::read(state).context("the state directory has no plan.json")?;
    let _held_for_life = take_place(&settings)?;
    cgroup::make(&settings.name)?;
    root::enter(&settings)?;
    protect_machine_settings()?;
    fs::write("/proc/sys/kernel/hostname", &settings.name).context("cannot name the node")?;
    configure_network(&settings)?;
    supervise(components)
}

/// Takes the lock that says "this node lives" and writes down who holds it, as the host knows us.
fn take_place(settings: &Settings) -> Result<File> {
    let path = settings.state.join("node.lock");
    let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
    let deadline = Instant::now() + PATIENCE;
    while file.try_lock().is_err() {
        ensure!(Instant::now() < deadline, "another node holds {}", path.display());
        thread::sleep(POLL);
    }
    // /proc is still the host's: there, this process has the number that the host can kill.
    let pid = fs::read_link("/proc/self")?.to_string_lossy().parse()?;
    let record = Record::of(pid).context("the first process is not in /proc")?;
    file.set_len(0)?;
    file.write_all(serde_json::to_string(&record)?.as_bytes())?;
    Ok(file)
}

fn protect_machine_settings() -> Result<()> {
    for name in MACHINE_SETTINGS {
        let original = Path::new("/proc/sys").join(name);
        let copy = Path::new("/run/machine-settings").join(name.replace('/', "."));
        let protect = || -> Result<()> {
            fs::create_dir_all("/run/machine-settings")?;
            fs::write(&copy, fs::read(&original)?)?;
            Ok(nix::mount::mount(Some(&copy), &original, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?)
        };
        protect().with_context(|| format!("cannot keep the kubelet from changing {name} of the whole machine"))?;
    }
    Ok(())
}

/// Waits for the link that `up` makes and configures the node's end. There is no way out but to the host's own end.
fn configure_network(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string("/proc/net/dev")?.contains(" eth0:") {
        ensure!(Instant::now() < deadline, "nobody connected the node to the host");
        thread::sleep(POLL);
    }
    let address = format!("{}/{}", settings.node_address(), settings.link.prefix());
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", &address, "dev", "eth0"])?;
    ip(&["link", "set", "eth0", "up"])?;
    // A packet to a Service needs some route before kube-proxy's rules give it its real destination.
    ip(&["route", "add", &settings.services.to_string(), "via", &settings.host_address().to_string()])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot turn forwarding on in the node")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot start ip")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` ended with {}: {}", arguments.join(" "), output.status, words.trim());
    Ok(())
}

/// Starts the programs and reaps until none is left.
fn supervise(components: Vec<Component>) -> Result<()> {
    let roster = Arc::new(Roster::default());
    let (later, now): (Vec<_>, Vec<_>) = components.into_iter().partition(|component| component.after_api_server);
    for component in &now {
        roster.start(component)?;
    }
    let starter = Arc::clone(&roster);
    thread::spawn(move || {
        let start = || -> Result<()> {
            wait_for_api_server()?;
            later.iter().try_for_each(|component| starter.start(component))
        };
        if let Err(error) = start() {
            eprintln!("the node gives up: {error:#}");
            std::process::exit(1);
        }
    });
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => roster.ended(pid.as_raw(), format!("exit status {code}"))?,
            Ok(WaitStatus::Signaled(pid, signal, _)) => roster.ended(pid.as_raw(), format!("signal {signal}"))?,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => bail!("every program of the node has ended"),
            Err(error) => return Err(error).context("cannot wait for the node's programs"),
        }
    }
}

fn wait_for_api_server() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kubeconfig = kube::config::Kubeconfig::read_from(format!("{}/kubeconfig", layout::STATE))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let client = kube::Client::try_from(config)?;
        loop {
            let ready = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(ready).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

/// Who runs and who has ended, told to the host in `components.json`.
#[derive(Default)]
struct Roster(Mutex<BTreeMap<i32, Report>>);

impl Roster {
    fn start(&self, component: &Component) -> Result<()> {
        let log = File::create(format!("{}/log/{}.log", layout::STATE, component.name))?;
        // Held while it starts, so that it cannot be reaped before it is known.
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Command::new(&component.program)
            .args(&component.arguments)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", component.name))?;
        reports.insert(i32::try_from(child.id())?, Report { name: component.name.clone(), ended: None });
        publish(&reports)
    }

    fn ended(&self, pid: i32, how: String) -> Result<()> {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = reports.get_mut(&pid) else { return Ok(()) };
        eprintln!("{} ended with {how}", report.name);
        report.ended = Some(how);
        publish(&reports)
    }
}

fn publish(reports: &BTreeMap<i32, Report>) -> Result<()> {
    let reports: Vec<&Report> = reports.values().collect();
    write_whole(&Path::new(layout::STATE).join("components.json"), &serde_json::to_string_pretty(&reports)?)
}
