//! No text panics, and one that is taken for a configuration is one: it has tenants, each once and of a class that
//! there is; nothing that grows is without a bound; and beyond loopback it speaks TLS or says in so many
//! words that it does not.
//!
//! Policies stand in files of their own, which have targets of their own: a text that names one is left out,
//! lest a case depend on what is on the disk.

use std::collections::HashSet;
use std::path::Path;

use caldera_node::config::{Config, Overrides};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if text.contains("policy") {
        return;
    }
    match Config::parse(text, Path::new("calderad.toml"), &Overrides::default()) {
        Ok(config) => {
            assert!(!config.tenants.is_empty());
            let names: HashSet<&str> = config.tenants.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(names.len(), config.tenants.len());
            let classes = config.policy.classes().len();
            let mut tenants = config.tenants.iter();
            assert!(tenants.all(|tenant| tenant.class.index() < classes));
            let limits = config.limits;
            assert!(limits.connections > 0 && limits.address_connections > 0);
            assert!(limits.head_bytes > 0 && limits.head_ms > 0 && limits.idle_ms > 0);
            let open = !config.listen.ip().is_loopback() && config.tls.is_none();
            assert!(!open || text.contains("allow_plain"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
