//! Which calls only read: they are served over HTTP to callers without the bearer token.
//!
//! The list is of what is allowed, so that a method that nobody thought of needs the token.

use serde_json::Value;

/// Methods that change nothing, tell nothing that is stored on a device, and end soon.
const READING: &[&str] = &[
    "accel_get_module_info",
    "accel_get_opc_assignments",
    "accel_get_stats",
    "bdev_get_bdevs",
    "bdev_get_health",
    "bdev_get_histogram",
    "bdev_get_histogram_borders",
    "bdev_get_iostat",
    "bdev_get_latency",
    "bdev_lvol_get_lvols",
    "bdev_lvol_get_lvstores",
    "bdev_nvme_get_controller_health_info",
    "bdev_nvme_get_controllers",
    "bdev_nvme_get_discovery_info",
    "bdev_nvme_get_io_paths",
    "bdev_nvme_get_path_iostat",
    "block_get",
    "block_get_blocks",
    "block_get_stats",
    "engine_get_memory_stats",
    "fault_injection_list",
    "framework_get_config",
    "framework_get_governor",
    "framework_get_pci_devices",
    "framework_get_reactors",
    "framework_get_scheduler",
    "framework_get_subsystems",
    "iobuf_get_stats",
    "log_get_flags",
    "log_get_level",
    "log_get_print_level",
    "notify_get_notifications",
    "notify_get_types",
    "notify_subscribe",
    "nvme_get_sanitize_status",
    "nvmf_discovery_get_referrals",
    "nvmf_get_stats",
    "nvmf_get_subsystems",
    "nvmf_get_targets",
    "nvmf_get_transports",
    "nvmf_subsystem_get_controllers",
    "nvmf_subsystem_get_listeners",
    "nvmf_subsystem_get_qpairs",
    "pool_get",
    "pool_get_stats",
    "rpc.discover",
    "rpc_get_methods",
    "sock_get_default_impl",
    "sock_impl_get_options",
    "spdk_get_version",
    "thread_get_io_channels",
    "thread_get_pollers",
    "thread_get_stats",
    "vol_get",
];

/// Methods whose names sound like reading, and which need the token: why.
#[cfg(test)]
const NOT_READING: &[(&str, &str)] = &[("env_dpdk_get_mem_stats", "it writes a file")];

/// Whether a call changes nothing.
#[must_use]
pub fn only_reads(method: &str, params: Option<&str>) -> bool {
    if READING.binary_search(&method).is_err() {
        return false;
    }
    // Names are compared after unescaping; what is no object of parameters is refused anyway.
    let params: Value = params.map_or(Ok(Value::Null), serde_json::from_str).unwrap_or_default();
    let given = |name: &str| params.get(name).is_some_and(|value| !value.is_null());
    match method {
        // Counters may be set back.
        "bdev_get_iostat" => !given("reset_mode") || params["reset_mode"] == "none",
        // A call that waits takes up room for as long as it likes.
        "bdev_get_bdevs" => !given("timeout") || params["timeout"] == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc;

    #[test]
    fn what_changes_something_needs_the_token() {
        for method in ["bdev_get_bdevs", "pool_get", "rpc_get_methods", "nvmf_get_stats"] {
            assert!(only_reads(method, None) && only_reads(method, Some("{}")), "{method}");
        }
        for method in [
            "bdev_create",
            "bdev_destroy",
            "spdk_kill_instance",
            "pool_scrub",
            "pool_check",
            "block_read",
            "framework_start_init",
            "vol_delete",
            "melt",
            "",
        ] {
            assert!(!only_reads(method, None), "{method}");
        }
        let reads = |method, params| only_reads(method, Some(params));
        assert!(reads("bdev_get_iostat", r#"{"name": "a", "reset_mode": "none"}"#));
        assert!(!reads("bdev_get_iostat", r#"{"reset_mode": "all"}"#));
        assert!(!reads("bdev_get_iostat", r#"{"\u0072eset_mode": "maxmin"}"#));
        assert!(!reads("bdev_get_bdevs", r#"{"name": "a", "timeout": 86400000}"#));
        assert!(reads("bdev_get_bdevs", r#"{"name": "a", "timeout": 0}"#));
    }

    #[test]
    fn the_list_is_in_order_and_every_reading_method_was_thought_of() {
        assert!(READING.is_sorted_by(|a, b| a < b), "it is searched by halves");
        for method in rpc::methods() {
            let name = method.name();
            let sounds = name.split(['_', '.']).any(|word| matches!(word, "get" | "list"));
            let excused = NOT_READING.iter().any(|(other, _)| *other == name);
            let listed = READING.contains(&name);
            assert!(
                !sounds || (listed != excused),
                "{name}: list it, or say why it needs the token"
            );
        }
    }
}
