//! `sim list`: the scenarios.

use super::say;
use crate::scenarios;

/// Reads whether a list is wanted as JSON.
pub(super) fn list_as(args: &[String]) -> Result<bool, String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["-o" | "--output", "table"] => Ok(false),
        ["-o" | "--output", "json"] => Ok(true),
        _ => Err(format!("list takes -o table or -o json, not {:?}", words.join(" "))),
    }
}

/// Says which scenarios there are.
pub(super) fn list(json: bool) -> i32 {
    for scenario in scenarios::ALL {
        if json {
            say(&format!(
                "{{\"scenario\":\"{}\",\"about\":\"{}\"}}",
                scenario.name, scenario.about
            ));
        } else {
            say(&format!("{:<14} {}", scenario.name, scenario.about));
        }
    }
    0
}
