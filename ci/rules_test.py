#!/usr/bin/env python3
"""The rules must catch what they are for, and must not cry wolf. Usage: ci/rules_test.py"""

import sys
import unittest
from unittest import mock

sys.dont_write_bytecode = True

import rules  # noqa: E402  (the line above must come first)


def documented(source):
    return [use[2] for use in rules.unsafe_uses(source)]


class ReadingRust(unittest.TestCase):
    def test_comments_and_literals_are_blanked(self):
        source = 'let a = "unsafe {"; // unsafe {\n/* unsafe { /* x */ unsafe { */ let b = r#"unsafe {"#;'
        code = rules.code_only(source)
        self.assertNotIn("unsafe", code)
        self.assertEqual(len(code), len(source))
        self.assertIn("let b =", code)

    def test_a_lifetime_is_not_a_character(self):
        self.assertIn("unsafe", rules.code_only("fn f<'a>(x: &'a u8) -> char { unsafe { '\\'' } }"))

    def test_escaped_quotes_stay_inside(self):
        self.assertNotIn("unsafe", rules.code_only(r'let a = "\\\"unsafe { \\";'))


class Unsafe(unittest.TestCase):
    def test_a_reason_above_or_inside_the_statement_counts(self):
        self.assertEqual(documented("// SAFETY: why.\nlet a = unsafe { b() };"), [True])
        self.assertEqual(documented("let a =\n    // SAFETY: why.\n    unsafe { b() };"), [True])
        self.assertEqual(documented("// SAFETY: why.\nunsafe impl Send for A {}"), [True])

    def test_no_reason_is_found(self):
        filler = "let x = 1;\n" * 10
        self.assertEqual(documented("// SAFETY: of another.\n" + filler + "let a = unsafe { b() };"), [False])
        self.assertEqual(documented('let s = "// SAFETY: in a string"; ' + "\n" * 9 + "unsafe { b() }"), [False])

    def test_declarations_are_not_counted(self):
        self.assertEqual(documented('unsafe fn f() {}\nunsafe extern "C" {}\n#[unsafe(no_mangle)] fn g() {}'), [])


class Imports(unittest.TestCase):
    def findings(self, path, source):
        with mock.patch.object(rules, "driver_exists", return_value=True):
            return len(rules.import_findings("spdk-rs/src/" + path, source))

    def test_upward_imports_are_found(self):
        self.assertEqual(self.findings("env/pool.rs", "use crate::reactor::Reactor;"), 1)
        self.assertEqual(self.findings("env/pool.rs", "use crate::{env::clock, bdev::{Bdev, BdevIo}};"), 2)
        self.assertEqual(self.findings("env/mod.rs", "use super::reactor::Reactor;"), 1)
        self.assertEqual(self.findings("reactor/mod.rs", "fn f() { crate::drivers::null::create() }"), 1)
        self.assertEqual(self.findings("bdev/mod.rs", "use super::drivers;"), 1)
        self.assertEqual(self.findings("drivers/aio.rs", "use super::uring::Ring;"), 1)
        self.assertEqual(self.findings("drivers/aio/ring.rs", "use crate::drivers::{uring, aio::x};"), 1)

    def test_an_expression_is_one_finding(self):
        self.assertEqual(self.findings("env/a.rs", "impl crate::bdev::Ops for A { fn f(a: u8, b: u8) {} }"), 1)

    def test_downward_imports_are_fine(self):
        self.assertEqual(self.findings("reactor/mod.rs", "use crate::env::{clock, DmaBuf};"), 0)
        self.assertEqual(self.findings("drivers/aio/ring.rs", "use super::file; use crate::drivers::common;"), 0)
        self.assertEqual(self.findings("drivers/mod.rs", "use crate::drivers::{aio, uring};"), 0)
        self.assertEqual(self.findings("env/a.rs", "// crate::bdev\n#[cfg(test)]\nmod tests { use crate::bdev; }"), 0)
        self.assertEqual(self.findings("bdev/tests.rs", "use crate::drivers::null;"), 0)


class MachinePaths(unittest.TestCase):
    def test_homes_are_found_and_standard_paths_are_not(self):
        pattern = rules.machine_path_pattern()
        for text in ("see /home/joe/io-engine", "'/root/.cargo/bin'", "/Users/joe/x"):
            self.assertTrue(pattern.search(text), text)
        for text in ("/tmp/io-engine.img", "/var/tmp/spdk.sock", "$HOME/root/x", "nvmf://host/home/nqn"):
            self.assertFalse(pattern.search(text), text)


class NamedPaths(unittest.TestCase):
    def test_links_and_the_table_are_read(self):
        page = """[a](docs/a.md#b) [web](https://x.y/z) `not/in/the/table`
## Where to look
| for | look in |
| `not/this/column` | `a/src/x*`, `b/NAME.rs`; `dev.rs` dispatches |
## Next
| a | `c/d` |"""
        found = [(path, link) for _, path, link in rules.named_paths(page)]
        self.assertEqual(found, [("docs/a.md", True), ("a/src/x*", False), ("b/*.rs", False)])

    def test_a_path_that_is_gone_is_a_finding(self):
        page = "## Where to look\n| a | `ci/rules.py`, `ci/gone.py` |\n[b](rules.py)\n[c](gone.md)"
        with mock.patch.object(rules, "read", return_value=page):
            broken, _ = rules.rule_docs(["ci/x.md"])
        self.assertEqual([text.split("no ")[1] for text in broken], ["ci/gone.py", "ci/gone.md"])


if __name__ == "__main__":
    unittest.main()
