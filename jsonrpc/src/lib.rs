//! JSON-RPC 2.0 in the dialect of SPDK.
