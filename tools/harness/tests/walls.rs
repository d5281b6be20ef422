//! The walls between the parts, read from what cargo resolves and from the source text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What would let a clock, a socket or the operating system's randomness into a pure crate.
const IMPURE: [&str; 12] = [
    "tokio",
    "madsim",
    "madsim-tokio",
    "socket2",
    "mio",
    "getrandom",
    "rand",
    "fastrand",
    "ahash",
    "async-std",
    "smol",
    "rustix",
];

/// Licences that may be combined with Apache-2.0 in a binary.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "Unlicense",
    "Apache-2.0 WITH LLVM-exception",
];

/// Never a dependency of any kind: other TLS stacks, and codecs that would vouch for our own.
const BANNED: [&str; 5] =
    ["openssl-sys", "native-tls", "kafka-protocol", "rdkafka-sys", "async-std"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(arguments)
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Returns `name version` of everything that a package links.
fn links(package: &str) -> BTreeSet<(String, String)> {
    let tree = cargo(&["tree", "-p", package, "-e", "normal", "--prefix", "none", "--locked"]);
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
        })
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            found.push((path, text));
        }
    }
}

fn sources_of(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

#[test]
fn core_links_nothing_that_knows_the_world() {
    let linked = links("mainspring-core");
    assert!(linked.iter().any(|(name, _)| name == "bytes"), "the tree was not read: {linked:?}");
    let impure: Vec<_> =
        linked.iter().filter(|(name, _)| IMPURE.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "core must stay pure, yet it links {impure:?}");
}

#[test]
fn simulator_library_knows_core_alone() {
    let linked = links("mainspring-sim");
    let foreign = ["tokio", "madsim", "madsim-tokio", "socket2", "getrandom", "mainspring-net"];
    let impure: Vec<_> =
        linked.iter().filter(|(name, _)| foreign.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "the simulator must stay pure, yet it links {impure:?}");
}

#[test]
fn shipped_binary_links_no_simulated_runtime_and_no_old_randomness() {
    for (name, version) in links("mainspring-net") {
        assert!(!name.starts_with("madsim"), "{name} {version} reached an ordinary build");
        assert!(name != "rand" || !version.starts_with("0.8"), "{name} {version}");
        assert!(name != "ahash", "{name} {version}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_we_may_ship() {
    let text = cargo(&["metadata", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    assert!(packages.len() > 10, "the metadata was not read");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(allowed))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences to look at: {refused:#?}");
    let banned: Vec<&Value> = packages
        .iter()
        .map(|package| &package["name"])
        .filter(|name| name.as_str().is_some_and(|name| BANNED.contains(&name)))
        .collect();
    assert!(banned.is_empty(), "banned: {banned:?}");
}

/// Whether a licence expression can be met; `AND` binds tighter than `OR`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(')
        && let Some((inner, after)) = rest.split_once(')')
    {
        let word = if allowed(inner) { "MIT" } else { "none" };
        return allowed(&format!("{before}{word}{after}"));
    }
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn licence_expressions_are_understood() {
    assert!(allowed("MIT OR GPL-3.0"));
    assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(allowed("MIT/Apache-2.0"));
    assert!(!allowed("GPL-3.0"));
    assert!(!allowed("MIT AND GPL-3.0"));
    assert!(!allowed("(GPL-2.0 OR GPL-3.0) AND MIT"));
}

#[test]
fn pure_crates_forbid_unsafe_code() {
    for file in ["core/src/lib.rs", "sim-tests/src/lib.rs"] {
        let text = std::fs::read_to_string(root().join(file)).expect("the crate has a root");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}

#[test]
fn one_room_of_the_shell_names_the_runtime() {
    for (path, text) in sources_of("net/src") {
        let is_room = path.file_name().is_some_and(|name| name == "rt.rs")
            || path.parent().is_some_and(|folder| folder.ends_with("net/src/rt"));
        if is_room {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let named = ["tokio::", "madsim::"].iter().any(|runtime| code.contains(runtime));
            assert!(!named, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn every_select_is_biased() {
    for (path, text) in sources_of("net/src") {
        if path.file_name().is_some_and(|name| name == "rt.rs") {
            continue;
        }
        for (at, _) in text.match_indices("select!") {
            let body = text[at..].split_once('{').map_or("", |(_, body)| body).trim_start();
            assert!(body.starts_with("biased;"), "{}: a select without an order", path.display());
        }
    }
}
