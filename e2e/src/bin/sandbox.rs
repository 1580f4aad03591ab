//! `sandbox`: a real one-node Kubernetes on this machine. Parses words and prints answers; the work is in the library.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::json;
use sojourn_e2e::release::Helm;
use sojourn_e2e::sandbox::{Own, Progress, Sandbox, build_own, install_tls_provider, node::first_process};
use sojourn_e2e::zipkin::Zipkin;

/// A real one-node Kubernetes on this machine, without Docker.
#[derive(Parser)]
#[command(name = "sandbox")]
struct Arguments {
    /// State directory of the sandbox [default: $SOJOURN_SANDBOX, $SOJOURN_CACHE/sandbox, ~/.cache/sojourn/sandbox].
    #[arg(long, global = true, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Bring the cluster up, or complete what is there of it.
    Up,
    /// Take the cluster down; what was built stays in the cache.
    Down,
    /// Say what runs; the exit status is 1 unless the cluster is up.
    Status,
    /// Run kubectl on the cluster.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Arguments of kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run helm on the cluster.
    #[command(disable_help_flag = true)]
    Helm {
        /// Arguments of helm.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print the path of the kubeconfig.
    Kubeconfig,
    /// Print the address of Jaeger, as the host reaches it.
    Jaeger,
    /// Print the path of the collector that sidecars run.
    Collector,
    /// Give the node the image in an OCI archive, or one of buildah's by name.
    Load {
        /// Path of an archive, or name of an image.
        image: String,
    },
    /// Build the project's images, and give them to the node if it is up.
    Images {
        /// Which; all of them if none is named.
        #[arg(value_enum)]
        which: Vec<Own>,
    },
    /// Run Zipkin beside the cluster until it is interrupted, and give the node a collector that can send to it.
    Zipkin,
    /// Install the operator's chart, or bring it up to date.
    Install,
    /// Install what the machine lacks and build what the cache lacks, and no more.
    Prepare,
    /// The node itself; `up` starts it.
    #[command(hide = true)]
    Node {
        #[command(subcommand)]
        stage: Stage,
    },
}

#[derive(Subcommand)]
enum Stage {
    Begin { state: PathBuf },
    First { state: PathBuf },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    install_tls_provider();
    // The node makes namespaces, which only a process with a single thread may do for its children.
    if let Subcommands::Node { stage } = arguments.command {
        match stage {
            Stage::Begin { state } => first_process::begin(&state)?,
            Stage::First { state } => first_process::first(&state)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let sandbox = match arguments.state {
        Some(state) => Sandbox::with_state(state)?,
        None => Sandbox::from_environment()?,
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(perform(sandbox, arguments.command))
}

async fn perform(sandbox: Sandbox, command: Subcommands) -> Result<ExitCode> {
    let progress = Progress::new();
    match command {
        Subcommands::Up => {
            let cluster = sandbox.up(&progress).await?;
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            println!("# Jaeger: {}", cluster.jaeger_url());
        }
        Subcommands::Down => sandbox.down(&progress).await?,
        Subcommands::Status => return status(&sandbox),
        Subcommands::Kubectl { arguments } => {
            let cluster = sandbox.connect(&progress).await?;
            return become_program(Command::new(cluster.kubectl()).env("KUBECONFIG", cluster.kubeconfig()).args(arguments));
        }
        Subcommands::Helm { arguments } => {
            let cluster = sandbox.connect(&progress).await?;
            return become_program(Command::new(cluster.helm()).env("KUBECONFIG", cluster.kubeconfig()).args(arguments));
        }
        Subcommands::Kubeconfig => println!("{}", sandbox.settings().kubeconfig().display()),
        Subcommands::Jaeger => println!("{}", sandbox.connect(&progress).await?.jaeger_url()),
        Subcommands::Collector => println!("{}", sandbox.connect(&progress).await?.collector().display()),
        Subcommands::Load { image } => load(&sandbox, &image, &progress).await?,
        Subcommands::Images { which } => images(&sandbox, which, &progress).await?,
        Subcommands::Zipkin => zipkin(&sandbox, &progress).await?,
        Subcommands::Install => {
            let cluster = sandbox.connect(&progress).await?;
            let step = progress.step("installing the operator with Helm");
            Helm::of_sandbox(&cluster).await?.install().await?;
            step.done();
        }
        Subcommands::Prepare => {
            sandbox.install_prerequisites(&progress).await?;
            sandbox.prepare(&progress).await?;
        }
        Subcommands::Node { .. } => bail!("the node is started before anything else"),
    }
    Ok(ExitCode::SUCCESS)
}

fn status(sandbox: &Sandbox) -> Result<ExitCode> {
    let status = sandbox.status()?;
    let settings = sandbox.settings();
    let node = status.node.map_or("not there".to_owned(), |pid| format!("process {pid}"));
    let mut text = format!("node {}: {node}\n", settings.name);
    for component in &status.components {
        let log = settings.log(&component.name);
        let state =
            component.ended.as_ref().map_or("runs".to_owned(), |how| format!("ended with {how}, see {}", log.display()));
        text.push_str(&format!("{}: {state}\n", component.name));
    }
    // Whoever reads the first lines only has heard enough.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if status.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn load(sandbox: &Sandbox, image: &str, progress: &Progress) -> Result<()> {
    let cluster = sandbox.connect(progress).await?;
    let loaded = if std::path::Path::new(image).is_file() {
        cluster.load_archive(image.as_ref()).await?
    } else {
        cluster.load_from_buildah(image).await?
    };
    println!("{image}: {}", if loaded { "loaded" } else { "the node has it" });
    Ok(())
}

async fn images(sandbox: &Sandbox, which: Vec<Own>, progress: &Progress) -> Result<()> {
    let which = if which.is_empty() { Own::ALL.to_vec() } else { which };
    let images = build_own(&sandbox.settings().cache, &which, progress).await?;
    if sandbox.status()?.node.is_some() {
        sandbox.connect(progress).await?.load_images(&images, progress).await?;
    }
    for image in images {
        println!("{} {}", image.name, image.archive.display());
    }
    Ok(())
}

async fn zipkin(sandbox: &Sandbox, progress: &Progress) -> Result<()> {
    let cluster = sandbox.connect(progress).await?;
    cluster.load_images(&[sandbox.zipkin_collector(progress).await?], progress).await?;
    let jar = sandbox.zipkin(progress).await?;
    let step = progress.step("starting Zipkin");
    let zipkin = Zipkin::start(&jar, cluster.host_address()).await?;
    step.done();
    println!("Zipkin: {}", zipkin.page());
    println!("A service sends its journeys there, with the collector that can, after");
    println!("  kubectl patch sjn NAME --type merge --patch '{}'", json!({"spec": {"tracing": zipkin.tracing()}}));
    println!("Ctrl-C ends it.");
    Ok(tokio::signal::ctrl_c().await?)
}

fn become_program(command: &mut Command) -> Result<ExitCode> {
    Err(command.exec()).with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}
