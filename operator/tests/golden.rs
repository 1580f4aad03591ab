//! Every example of the repository, as the operator renders it, compared to the byte with `golden/`; likewise the CRD and the
//! chart's copy of it. `UPDATE_GOLDEN=1 cargo test -p sojourn-operator --test golden` writes the files again.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is not there")]

use std::path::{Path, PathBuf};

use sojourn_operator::cli;
use sojourn_operator::crd::tracing::Sampling;
use sojourn_operator::settings::Settings;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Compares a text with a file, or writes the file.
fn check(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let first = expected.lines().zip(text.lines()).position(|(left, right)| left != right);
    let line = first.unwrap_or_else(|| expected.lines().count().min(text.lines().count()));
    assert!(
        expected == text,
        "{} differs from line {}:\n  file: {:?}\n  code: {:?}\nUPDATE_GOLDEN=1 writes it again",
        path.display(),
        line + 1,
        expected.lines().nth(line),
        text.lines().nth(line),
    );
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn render(file: &Path, settings: &Settings) -> String {
    cli::rendered(&cli::read(file).unwrap(), settings).unwrap()
}

#[test]
fn every_example_is_valid_and_renders_as_before() {
    let mut examples: Vec<PathBuf> =
        std::fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.sort();
    assert!(examples.iter().any(|path| path.ends_with("service.yaml")), "{examples:?}");
    for example in examples {
        let name = example.file_name().unwrap().to_str().unwrap().to_owned();
        check(&golden(&name), &render(&example, &Settings::default()));
    }
}

#[test]
fn the_operators_defaults_stand_under_a_service_that_says_nothing() {
    let sampling: Sampling =
        serde_json::from_str(r#"{"rate":"5%","keep":{"preempted":false,"firstTokenSlowerThan":"3s"}}"#).unwrap();
    let settings = Settings {
        default_destination: Some("http://otel-collector.observability:4317".into()),
        default_sampling: sampling,
        allow_file_models: true,
        ..Settings::default()
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bare.yaml");
    check(&golden("bare.yaml"), &render(&fixture, &settings));
}

#[test]
fn the_installed_definition_is_the_one_in_the_code() {
    let crd = cli::crd().unwrap();
    assert!(crd.len() < 100_000, "{} bytes", crd.len());
    check(&repository().join("crds/inferenceservices.yaml"), &crd);
}
