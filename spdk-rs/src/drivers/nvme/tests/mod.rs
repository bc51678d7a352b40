//! Tests against a scripted target.
