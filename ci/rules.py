#!/usr/bin/env python3
"""Rules about the sources that no compiler checks. Usage: ci/rules.py size|unsafe|forbid|imports|paths|docs

Each rule prints what it found, one finding per line, then a line "remark: …" that sums up, and exits with 1 when the
rule is broken. Needs only the standard library.
"""

import glob
import json
import os
import re
import subprocess
import sys

# Lines of a Rust file that bring a remark, and that are too many.
LINES_LISTED = 600
LINES_MAX = 1000

# Packages whose every target must be free of unsafe code by declaration.
FORBID_UNSAFE = ("io-engine", "jsonrpc")

# Package → workspace packages that it may not depend on, in whatever section.
PACKAGE_BANS = {
    "spdk-rs-sys": ("spdk-rs", "jsonrpc", "io-engine", "io-engine-test"),
    "spdk-rs": ("jsonrpc", "io-engine", "io-engine-test"),
    "jsonrpc": ("spdk-rs", "spdk-rs-sys", "io-engine", "io-engine-test"),
    "io-engine": ("io-engine-test",),
}

# Module of spdk-rs → modules that it may not import.
MODULE_BANS = {
    "env": ("reactor", "net", "bdev", "nvme", "drivers", "nvmf"),
    "reactor": ("net", "bdev", "nvme", "drivers", "nvmf"),
    "net": ("bdev", "nvme", "drivers", "nvmf"),
    "bdev": ("net", "nvme", "drivers", "nvmf"),
    "nvme": ("drivers", "nvmf"),
    "nvmf": ("drivers",),
    "drivers": ("nvmf",),
}

# Modules beside the drivers that hold what several drivers share; every driver may import them.
DRIVERS_SHARED = ("common", "layer")


# ---- reading Rust -------------------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*)
    | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)")
    | (?P<string>\b(?:b|c)?"|")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^\\'\n])')
    """,
    re.VERBOSE,
)


def blank(text):
    """The text with every character but line ends replaced by a space, so that offsets stay."""
    return re.sub(r"[^\n]", " ", text)


def code_only(source):
    """The source with comments, strings and characters blanked out; offsets and lines are kept."""
    out, at = [], 0
    while True:
        match = TOKEN.search(source, at)
        if not match:
            out.append(source[at:])
            return "".join(out)
        out.append(source[at : match.start()])
        end = match.end()
        if match["block"]:
            depth = 1
            while depth and end < len(source):
                two = source[end : end + 2]
                step = {"/*": 1, "*/": -1}.get(two, 0)
                depth += step
                end += 2 if step else 1
        elif match["raw"]:
            close = source.find('"' + match["hashes"], end)
            end = len(source) if close < 0 else close + 1 + len(match["hashes"])
        elif match["string"]:
            while end < len(source) and source[end] != '"':
                end += 2 if source[end] == "\\" else 1
            end += 1
        out.append(blank(source[match.start() : end]))
        at = end


def block_end(code, brace):
    """The offset after the brace that closes the one at `brace`."""
    depth = 0
    for at in range(brace, len(code)):
        if code[at] == "{":
            depth += 1
        elif code[at] == "}":
            depth -= 1
            if depth == 0:
                return at + 1
    return len(code)


def without_tests(code):
    """The code with inline `#[cfg(test)] mod` blocks blanked out: tests may use whatever they like."""
    for match in re.finditer(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?mod\s+\w+\s*\{", code):
        end = block_end(code, match.end() - 1)
        code = code[: match.start()] + blank(code[match.start() : end]) + code[end:]
    return code


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


# ---- unsafe -------------------------------------------------------------------------------------------------------

UNSAFE = re.compile(r"\bunsafe\s*(\{|impl\b|fn\b|trait\b|extern\b)")
SAFETY = re.compile(r"(//|\*).*\bSAFETY:", re.IGNORECASE)


def unsafe_uses(source):
    """Pairs of (kind, line, documented) for every use of `unsafe` that needs a reason: blocks and impls.

    The reason is a comment with "SAFETY:" between the start of the statement and the block, or close above it. Clippy
    checks the same more strictly, but not inside macros and not in code that a target or a feature switches off.
    """
    code = code_only(source)
    lines = source.split("\n")
    found = []
    for match in UNSAFE.finditer(code):
        kind = {"{": "block", "impl": "impl"}.get(match[1])
        if kind is None:
            continue
        began = max(code.rfind(mark, 0, match.start()) for mark in ";{}") + 1
        line = line_of(code, match.start())
        near = source[began : match.start()].split("\n") + lines[max(0, line - 7) : line]
        found.append((kind, line, any(SAFETY.search(text) for text in near)))
    return found


def rule_unsafe(files):
    counts, missing = {}, []
    for path in files:
        if not path.endswith(".rs"):
            continue
        crate = path.split("/")[0]
        for kind, line, documented in unsafe_uses(read(path)):
            counts.setdefault(crate, {"block": 0, "impl": 0})[kind] += 1
            if not documented:
                missing.append(f"{path}:{line}: unsafe {kind} without a SAFETY comment")
    total = sum(count["block"] for count in counts.values())
    for crate in sorted(counts):
        print(f"unsafe in {crate}: {counts[crate]['block']} blocks, {counts[crate]['impl']} impls")
    if not counts:
        print("unsafe: none")
    return missing, f"{total} blocks in all, {len(missing)} without a reason"


# ---- the other rules ----------------------------------------------------------------------------------------------


def rule_size(files):
    broken, listed = [], 0
    for path in files:
        if not path.endswith(".rs"):
            continue
        lines = read(path).count("\n")
        if lines > LINES_MAX:
            broken.append(f"{path}: {lines} lines, at most {LINES_MAX} are allowed: split it")
        elif lines > LINES_LISTED:
            listed += 1
            print(f"{path}: {lines} lines, worth splitting")
    return broken, f"{listed} files over {LINES_LISTED} lines, {len(broken)} over {LINES_MAX}"


def metadata():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rule_forbid(_files):
    broken, seen = [], 0
    for package in metadata()["packages"]:
        if package["name"] not in FORBID_UNSAFE:
            continue
        for target in package["targets"]:
            if not {"lib", "bin", "rlib"} & set(target["kind"]):
                continue
            seen += 1
            path = os.path.relpath(target["src_path"])
            if not re.search(r"#!\[forbid\([^)]*\bunsafe_code\b", code_only(read(path))):
                broken.append(f"{path}: #![forbid(unsafe_code)] is missing")
    if seen < len(FORBID_UNSAFE):
        broken.append(f"only {seen} targets of {', '.join(FORBID_UNSAFE)} were found")
    return broken, f"{seen} crate roots"


def use_tree(text, prefix):
    """The paths named by the use tree at the start of `text`, each as a tuple that starts with `prefix`."""
    paths, path, at = [], list(prefix), 0
    stack = []
    word = re.compile(r"\s*(::|\{|\}|,|\*|as\s+\w+|r#\w+|\w+)")
    # `fresh`: nothing of the current path was read yet; `joined`: the last token allows a name or a group to follow.
    fresh = joined = True
    while True:
        match = word.match(text, at)
        if not match or (not joined and match[1] not in ("::", ",", "}") and not match[1].startswith("as ")):
            break
        token, at = match[1], match.end()
        joined = token in ("::", "{", ",")
        if token == "{":
            stack.append(list(path))
        elif token in (",", "}"):
            if not fresh:
                paths.append(tuple(path))
            if not stack:
                return paths
            path = list(stack[-1]) if token == "," else stack.pop()
            fresh = True
            if token == "}" and not stack:
                return paths
        elif token != "::" and not token.startswith("as "):
            path.append(token)
            fresh = False
    if not fresh:
        paths.append(tuple(path))
    return paths


def module_of(path):
    """`spdk-rs/src/drivers/aio/ring.rs` → ("drivers", "aio", "ring"); `mod.rs` and `lib.rs` add nothing."""
    parts = path.split("/src/", 1)[1][: -len(".rs")].split("/")
    return tuple(part for part in parts if part not in ("mod", "lib"))


def imported_modules(source, module):
    """Triples of (line, path) of everything in the crate that the code names, as paths from the crate's root."""
    code = without_tests(code_only(source))
    for match in re.finditer(r"\b(?:crate|super(?:\s*::\s*super)*)\s*::\s*", code):
        if match[0].startswith("crate"):
            prefix = ()
        else:
            prefix = module[: -match[0].count("super")]
        for path in use_tree(code[match.end() : match.end() + 4000], prefix):
            yield line_of(code, match.start()), path


def is_test_file(path):
    return re.search(r"(^|/)tests?(\.rs$|/)|_tests?\.rs$", path.split("/src/", 1)[-1]) is not None


def import_findings(path, source):
    """What a file of spdk-rs imports against the direction."""
    module = module_of(path)
    if not module or is_test_file(path):
        return []
    findings = []
    for line, target in imported_modules(source, module):
        if not target:
            continue
        if target[0] in MODULE_BANS.get(module[0], ()):
            findings.append(f"{path}:{line}: {module[0]} imports {target[0]}")
        if module[0] == "drivers" == target[0] and len(module) > 1 and len(target) > 1:
            other = target[1]
            own = other == module[1] or other in DRIVERS_SHARED or module[1] in DRIVERS_SHARED
            if not own and driver_exists(path, other):
                findings.append(f"{path}:{line}: driver {module[1]} imports driver {other}")
    return findings


def driver_exists(path, name):
    """A name below `drivers` may also be an item of drivers/mod.rs, which is common ground."""
    folder = path.split("/drivers/", 1)[0] + "/drivers/" + name
    return os.path.isdir(folder) or os.path.isfile(folder + ".rs")


def rule_imports(files):
    broken, edges = [], 0
    for package in metadata()["packages"]:
        for dependency in package["dependencies"]:
            edges += 1
            if dependency["name"] in PACKAGE_BANS.get(package["name"], ()):
                broken.append(f"{package['name']}/Cargo.toml: may not depend on {dependency['name']}")
    for path in files:
        if path.startswith("spdk-rs/src/") and path.endswith(".rs"):
            broken += import_findings(path, read(path))
    return broken, f"{edges} dependencies of packages, {len(broken)} findings"


def machine_path_pattern():
    """A path that exists on one machine only: somebody's home, or the place of this very checkout."""
    words = [r"/home/[a-z]\w*/", r"/Users/\w+/", r"/root/\.?\w"]
    root = os.getcwd()
    words.append(re.escape(root) + r"\b")
    parent = os.path.dirname(root)
    # The parents that any machine has, or that CI services use, say nothing about this machine.
    common = "home tmp var usr opt srv mnt media run dev etc root build builds workspace app src repo code".split()
    if parent.strip("/") and parent.strip("/") not in common:
        words.append(re.escape(parent) + r"/")
    return re.compile(r"(?<![\w.$}-])(?:" + "|".join(words) + ")")


def rule_paths(files):
    pattern, broken, seen = machine_path_pattern(), [], 0
    for path in files:
        if path.startswith("ci/rules") or path.endswith((".png", ".gz")):
            continue
        seen += 1
        for number, text in enumerate(read(path).split("\n"), 1):
            if match := pattern.search(text):
                broken.append(f"{path}:{number}: a path of one machine: {match[0]}")
    return broken, f"{seen} files"


# Words in capitals stand for a name: `io-engine/src/bdev/SCHEME.rs`.
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b(?!\.md)")


def named_paths(markdown):
    """Triples (line, path, whether it is relative to the page) of what a page says is in the repository: relative links, and paths in backquotes in the
    table below "Where to look", with `*` where a placeholder stands."""
    table = False
    for number, text in enumerate(markdown.split("\n"), 1):
        if text.startswith("#"):
            table = text.strip("# ") == "Where to look"
        for target in re.findall(r"\]\(([^)\s#]+)", text):
            if not re.match(r"\w+:", target):
                yield number, target, True
        if table and text.startswith("|"):
            for path in re.findall(r"`([^`\s]+/[^`\s]*)`", text.split("|")[2]):
                yield number, PLACEHOLDER.sub("*", path), False


def rule_docs(files):
    broken, seen = [], 0
    for path in files:
        if not path.endswith(".md"):
            continue
        for line, target, link in named_paths(read(path)):
            seen += 1
            place = os.path.join(os.path.dirname(path), target) if link else target
            if not glob.glob(place):
                broken.append(f"{path}:{line}: there is no {place}")
    return broken, f"{seen} paths"


# ---- the program --------------------------------------------------------------------------------------------------


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def repository_files():
    """Every file, tracked or new. Without git's help (it refuses a clone of another user) the tree is walked."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return sorted({path for path in done.stdout.split("\0") if path and os.path.isfile(path)})
    except FileNotFoundError:
        pass
    found = []
    for folder, folders, names in os.walk("."):
        folders[:] = [name for name in folders if name not in ("target", ".git")]
        found += [os.path.relpath(os.path.join(folder, name)) for name in names]
    return sorted(found)


RULES = {
    "size": rule_size,
    "unsafe": rule_unsafe,
    "forbid": rule_forbid,
    "imports": rule_imports,
    "paths": rule_paths,
    "docs": rule_docs,
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in RULES:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(RULES)}")
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    broken, note = RULES[sys.argv[1]](repository_files())
    for finding in broken:
        print(finding)
    print(f"remark: {note}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
