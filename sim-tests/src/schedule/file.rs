//! The readable form of a schedule: JSON with one line for each client, fault and step. What is as by
//! default is left out.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Plan, Schedule, ScheduleError};
use crate::disk::DiskOptions;
use crate::net::NetOptions;
use crate::scenarios;

/// What a schedule of this version says of itself.
pub(super) const FORMAT: &str = "mainspring-schedule-1";

/// More than any schedule has.
const BYTES_MAX: usize = 16 << 20;

impl Schedule {
    /// Returns the text of a file that [`read`](Self::read) understands.
    pub fn write(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a schedule is plain data");
        if let Some(plan) = value.pointer_mut("/plan/world") {
            drop_defaults(&mut plan["disk"], &DiskOptions::default());
            drop_defaults(&mut plan["net"], &NetOptions::default());
        }
        let mut all = Map::new();
        all.insert("format".to_owned(), FORMAT.into());
        if let Value::Object(fields) = value {
            all.extend(fields);
        }
        let mut text = String::new();
        render(&Value::Object(all), 0, &mut text);
        text.push('\n');
        text
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Says what it is that cannot be run. Whatever is read can be run to its end.
    pub fn read(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > BYTES_MAX {
            return Err(ScheduleError::TooLarge { bytes: text.len() });
        }
        let form = |error: serde_json::Error| ScheduleError::Form(error.to_string());
        let mut value: Value = serde_json::from_str(text).map_err(form)?;
        let Some(fields) = value.as_object_mut() else {
            return Err(ScheduleError::Form("it is no object".to_owned()));
        };
        match fields.remove("format") {
            Some(Value::String(format)) if format == FORMAT => {}
            Some(other) => return Err(ScheduleError::Format(other.to_string())),
            None => return Err(ScheduleError::Format(String::new())),
        }
        // Why somebody kept it, for people.
        if fields.remove("about").is_some_and(|about| !about.is_string()) {
            return Err(ScheduleError::Form("`about` is no text".to_owned()));
        }
        let schedule: Self = serde_json::from_value(value).map_err(form)?;
        schedule.check()?;
        Ok(schedule)
    }

    /// Says whether it can be run.
    ///
    /// # Errors
    /// Says what cannot be run.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let Some(scenario) = scenarios::find(&self.scenario) else {
            return Err(ScheduleError::Scenario(self.scenario.clone()));
        };
        let drawn = (scenario.draw)(self.seed);
        if std::mem::discriminant(&drawn) != std::mem::discriminant(&self.plan) {
            return Err(ScheduleError::Form(format!(
                "{} has plans of another kind",
                self.scenario
            )));
        }
        match &self.plan {
            Plan::World(plan) => plan.check(),
            Plan::Steps(plan) => plan.check(),
        }
    }
}

/// Leaves out what is as by default.
fn drop_defaults(value: &mut Value, default: &impl serde::Serialize) {
    let default = serde_json::to_value(default).expect("options are plain data");
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, value| default[name.as_str()] != *value);
    }
}

/// Writes a value: what holds nothing but plain values on one line, all else on several.
fn render(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth + 1);
    let is_plain = |value: &Value| match value {
        Value::Object(fields) => fields.values().all(|inner| !inner.is_array()),
        _ => true,
    };
    match value {
        Value::Object(fields) if depth < 3 && !(depth > 1 && is_plain(value)) => {
            text.push_str("{\n");
            for (nth, (name, value)) in fields.iter().enumerate() {
                let _infallible = write!(text, "{indent}{}: ", Value::from(name.as_str()));
                render(value, depth + 1, text);
                text.push_str(if nth + 1 < fields.len() { ",\n" } else { "\n" });
            }
            text.push_str(&indent[2..]);
            text.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            text.push_str("[\n");
            for (nth, item) in items.iter().enumerate() {
                let _infallible = write!(text, "{indent}{item}");
                text.push_str(if nth + 1 < items.len() { ",\n" } else { "\n" });
            }
            text.push_str(&indent[2..]);
            text.push(']');
        }
        other => {
            let _infallible = write!(text, "{other}");
        }
    }
}
