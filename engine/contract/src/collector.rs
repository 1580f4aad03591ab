//! What operator and supervisor agree on inside the collector's configuration.

/// Key of a mapping that stands where a value from the credentials Secret goes: `{secretKey: KEY}`.
pub const SECRET_KEY: &str = "secretKey";

/// Name of an exporter: its type, the destination, and eight digits that change with the endpoint, because the collector
/// keys a queue by this name and a changed endpoint must not get the old one's backlog.
pub fn exporter_id(exporter_type: &str, destination: &str, endpoint_digest: &str) -> String {
    let digits: String = endpoint_digest.chars().take(8).collect();
    format!("{exporter_type}/{destination}-{digits}")
}

/// The destination that an exporter's name was made from; `None` for a name of another form.
pub fn destination_of(exporter_id: &str) -> Option<&str> {
    let (_, name) = exporter_id.split_once('/')?;
    name.rsplit_once('-').map(|(destination, _)| destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_names_its_destination() {
        let id = exporter_id("otlp_grpc", "tempo-eu", "0123456789abcdef");
        assert_eq!(id, "otlp_grpc/tempo-eu-01234567");
        assert_eq!(destination_of(&id), Some("tempo-eu"));
        assert_eq!(destination_of("debug"), None);
    }
}
