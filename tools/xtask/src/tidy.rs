//! What no other tool looks at: words that comments must not hold, and the longest files.

use std::path::{Path, PathBuf};

use crate::root;

/// Markers of unfinished work, in two halves so that this file does not hold them.
const UNFINISHED: [(&str, &str); 5] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("todo", "!("), ("unimpl", "emented!(")];

/// Prints the longest files as a hint; fails for unfinished work and for stray files.
pub(crate) fn check() -> Result<(), String> {
    let mut found = Vec::new();
    let mut lengths = Vec::new();
    for file in files(&root()) {
        if file.extension().is_none_or(|e| e != "rs" && e != "py") {
            continue;
        }
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        for (number, line) in text.lines().enumerate() {
            if UNFINISHED.iter().any(|(a, b)| line.contains(&format!("{a}{b}"))) {
                found.push(format!("{}:{}: unfinished work", file.display(), number + 1));
            }
        }
        lengths.push((text.lines().count(), file));
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let root = root();
    for (lines, file) in lengths.iter().take(5) {
        println!("{lines:>6} lines  {}", file.strip_prefix(&root).unwrap_or(file).display());
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

/// Returns every file of the repository, without what is built and what is hidden.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return all };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let built = ["target", "mainspring-data", "node_modules", "__pycache__"];
        if name.starts_with('.') || built.contains(&name.as_str()) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&path)),
            Ok(kind) if kind.is_file() => all.push(path),
            _ => {}
        }
    }
    all.sort();
    all
}
