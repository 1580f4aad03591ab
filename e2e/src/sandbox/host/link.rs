//! The link between host and node and the host's routes to pods and Services. Both end with the node's network namespace,
//! because a link that loses one end loses the other. Uses the program `ip`; touches no table of the firewall.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::sandbox::{
    command::{output, program},
    node::Record,
    settings::{Range, Settings},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Connects the node, or completes what an interrupted run has begun.
pub(in crate::sandbox) async fn connect(settings: &Settings, node: Record) -> Result<()> {
    let name = settings.name.as_str();
    if !exists(name)? {
        refuse_taken_ranges(settings).await?;
        let namespace = node.pid.to_string();
        ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace])
            .await
            .context("cannot connect the node to the host")?;
    }
    let address = format!("{}/{}", settings.host_address(), settings.link.prefix());
    ip(&["address", "replace", &address, "dev", name]).await?;
    ip(&["link", "set", name, "up"]).await?;
    for range in [settings.pods, settings.services] {
        ip(&["route", "replace", &range.to_string(), "via", &settings.node_address().to_string(), "dev", name]).await?;
    }
    Ok(())
}

/// Waits until the kernel has taken the link away with its namespace. A link whose node is gone can only be one that
/// never lost its other end, and is deleted.
pub(in crate::sandbox) async fn remove(settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while exists(&settings.name)? {
        // It may vanish between the question and the deletion: only the question's answer counts.
        let deleted = ip(&["link", "delete", &settings.name]).await;
        if Instant::now() > deadline {
            return deleted.with_context(|| format!("cannot remove the link {}", settings.name));
        }
    }
    Ok(())
}

fn exists(name: &str) -> Result<bool> {
    std::fs::exists(format!("/sys/class/net/{name}")).context("cannot look at the machine's links")
}

/// A range that the machine reaches in another way already must stay reachable.
async fn refuse_taken_ranges(settings: &Settings) -> Result<()> {
    let routes = output(program("ip").args(["-json", "-4", "route", "show", "table", "all"])).await?;
    let routes: Vec<Route> = serde_json::from_str(&routes).context("cannot read the machine's routes")?;
    for wanted in [settings.link, settings.pods, settings.services] {
        if let Some(route) = conflict(&routes, &settings.name, wanted) {
            bail!(
                "the sandbox wants the addresses {wanted}, and the machine has a route to {} by {}: \
                 put other ranges into {}",
                route.dst,
                route.dev.as_deref().unwrap_or("no link"),
                settings.state.join("settings.json").display()
            );
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    dev: Option<String>,
}

fn conflict<'a>(routes: &'a [Route], own_link: &str, wanted: Range) -> Option<&'a Route> {
    routes.iter().filter(|route| route.dev.as_deref() != Some(own_link)).find(|route| {
        // `default` is no range, and overlaps everything without meaning it.
        route.dst.parse::<Range>().is_ok_and(|taken| taken.prefix() > 0 && taken.overlaps(&wanted))
    })
}

async fn ip(arguments: &[&str]) -> Result<()> {
    output(program("ip").args(arguments)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_conflicts_with_a_route_of_another_link_only() {
        let routes: Vec<Route> = serde_json::from_str(
            r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},
                {"dst":"10.96.0.0/16","dev":"sojourn"},
                {"dst":"10.244.7.1","dev":"tun0"}]"#,
        )
        .unwrap();
        let range = |text: &str| text.parse::<Range>().unwrap();
        assert!(conflict(&routes, "sojourn", range("10.96.0.0/16")).is_none());
        assert!(conflict(&routes, "sojourn", range("10.77.0.0/30")).is_none());
        assert_eq!(conflict(&routes, "sojourn", range("10.244.0.0/16")).unwrap().dst, "10.244.7.1");
        assert_eq!(conflict(&routes, "trial", range("10.96.0.0/16")).unwrap().dst, "10.96.0.0/16");
    }
}
