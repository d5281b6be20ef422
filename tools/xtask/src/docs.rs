//! The reference of the code and the links between the pages.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::parts::{Counting, Parts};
use crate::{cargo, root, tidy};

/// Builds the reference without warnings and follows every relative link of the pages.
pub(crate) fn run() -> ExitCode {
    let mut parts = Parts::default();
    let mut reference = cargo(&["doc", "-q", "--workspace", "--no-deps"]);
    reference.env("RUSTDOCFLAGS", "-D warnings");
    parts.run("reference", Duration::from_mins(5), Counting::Exit, reference);
    parts.check("links", &links());
    parts.finish()
}

/// Checks that every relative link of every page leads to a file.
pub(crate) fn links() -> Result<(), String> {
    let mut broken = Vec::new();
    for page in
        tidy::files(&root()).iter().filter(|file| file.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(page).map_err(|error| error.to_string())?;
        let here = page.parent().unwrap_or_else(|| Path::new("."));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !file.is_empty() && !elsewhere && !here.join(file).exists() {
                broken.push(format!("{}: {target} leads nowhere", page.display()));
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}
