use std::collections::BTreeSet;

use openmetrics_parser::prometheus::parse_prometheus;

use super::*;

#[tokio::test]
async fn a_process_without_an_engine_has_metrics_too() {
    let sources =
        Sources { rpc: Some(Arc::default()), http: Arc::default(), started: SystemTime::now() };
    let text = scrape(&Context::new(), &sources).await;
    let parsed = parse_prometheus(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(parsed.families.contains_key("io_engine_build_info"), "{text}");
    assert!(parsed.families.contains_key("io_engine_rpc_connections"), "{text}");
    assert!(!parsed.families.contains_key("io_engine_reactor_turns_total"), "{text}");
    // Each is there once, and said what it is.
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len());
    assert_eq!(names.len(), text.lines().filter(|line| line.starts_with("# HELP ")).count());
}
