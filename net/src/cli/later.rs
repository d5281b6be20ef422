//! `--delay` and `--at` of `mainspring produce`: records that come later.

use bytes::Bytes;
use mainspring_core::client::admin::{AdminTarget, describe_topic_configs};
use mainspring_core::record::headers;
use mainspring_core::wire::{KafkaString, Response};

use super::connect::{Connection, Requests, strange};
use super::failure::{Code, Failure};
use super::{time, topic};

/// The setting of a topic that lists what its records may ask for.
const FEATURES: &str = "mainspring.features";
/// What a record that comes later needs there.
const SCHEDULE: &str = "schedule";

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Later {
    /// Deliver all records after a while, such as 5m or 1h30m; the topic needs mainspring.features=schedule
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    delay: Option<String>,
    /// Deliver all records at a moment, such as 2026-12-24T18:00:00+01:00 or Unix milliseconds
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl Later {
    /// Returns the header that asks for it, where it is asked for.
    pub(crate) fn header(&self) -> Result<Option<(Bytes, Option<Bytes>)>, Failure> {
        let (name, millis) = if let Some(text) = &self.delay {
            let delay = time::parse_duration_ms(text).ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --delay {text}"),
                    "it is no length of time",
                    "write it as --delay 1h30m, with the units d, h, m, s and ms",
                )
            })?;
            (headers::DELAY_MS, delay)
        } else if let Some(text) = &self.at {
            let moment = time::parse_millis(text).ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --at {text}"),
                    "it is no moment",
                    "write it as --at 2026-12-24T18:00:00Z, or as Unix milliseconds",
                )
            })?;
            (headers::DELIVER_AT, moment)
        } else {
            return Ok(None);
        };
        Ok(Some((Bytes::from_static(name), Some(millis.to_string().into()))))
    }
}

/// Refuses to send what nobody would hold back: without the feature, the header is plain data.
pub(crate) async fn check_topic(
    name: &KafkaString,
    connection: &Connection,
) -> Result<(), Failure> {
    let what = format!("cannot delay records of the topic {name}");
    let request = describe_topic_configs(name.clone());
    let mut requests = Requests::new(connection)?;
    let response = requests.ask(&what, AdminTarget::Any, request).await?;
    let Response::DescribeConfigs(response) = response else { return Err(strange(&what)) };
    let result = response.results.first().ok_or_else(|| strange(&what))?;
    topic::check(&what, result.error_code, result.error_message.as_ref())?;
    let features = result.configs.iter().find(|config| &*config.name == FEATURES);
    let features = features.and_then(|config| config.value.as_deref()).unwrap_or_default();
    if features.split(',').any(|feature| feature.trim() == SCHEDULE) {
        return Ok(());
    }
    let set = if features.is_empty() { SCHEDULE } else { &format!("{features},{SCHEDULE}") };
    Err(Failure::new(
        Code::Failed,
        what,
        format!("its setting {FEATURES} lacks {SCHEDULE}"),
        format!("set it with mainspring topic alter {name} -c {FEATURES}={set}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(delay: Option<&str>, at: Option<&str>) -> Option<(Bytes, Option<Bytes>)> {
        let args = Later { delay: delay.map(str::to_owned), at: at.map(str::to_owned) };
        args.header().expect("sound")
    }

    #[test]
    fn a_delay_and_a_moment_are_headers_of_each_record() {
        let pair = |name: &'static str, value: &'static str| {
            Some((Bytes::from(name), Some(Bytes::from(value))))
        };
        assert_eq!(header(Some("1m30s"), None), pair("mainspring-delay-ms", "90000"));
        let at = "2026-11-22T11:00:00+01:00";
        assert_eq!(header(None, Some(at)), pair("mainspring-deliver-at", "1795341600000"));
        assert_eq!(header(None, None), None);
    }

    #[test]
    fn what_is_neither_is_a_wrong_use() {
        for (delay, at) in [(Some("soon"), None), (Some("5"), None), (None, Some("tomorrow"))] {
            let args = Later { delay: delay.map(str::to_owned), at: at.map(str::to_owned) };
            assert_eq!(args.header().expect_err("refused").code, Code::Usage);
        }
    }
}
