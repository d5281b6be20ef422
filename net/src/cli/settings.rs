//! What `serve` is told, from three places: a flag wins over `MAINSPRING_...`, which wins over the
//! file.
//!
//! The file is TOML, with the names of the flags and Kafka's broker settings as keys, quoted or as
//! dotted tables, at the top or below `[broker]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mainspring_core::config::{BROKER_SETTINGS, BrokerSettings, ConfigError};
use mainspring_core::ids::NodeId;

use super::failure::Failure;
use super::voters::{Given, Voters};
use crate::address::{HostPort, NamedAddress};
use crate::node::ListenerOptions;

/// The settings of `serve` that are no broker settings of Kafka's. `_` stands for `-` in variables.
const OWN: [&str; 10] = [
    "data-dir",
    "memory",
    "listen",
    "advertise",
    "console",
    "node-id",
    "voters",
    "peer-listen",
    "cluster-secret",
    "insecure",
];
/// Kafka's names for some of them.
const KAFKAS: [(&str, &str); 7] = [
    ("log.dirs", "data-dir"),
    ("log.dir", "data-dir"),
    ("listeners", "listen"),
    ("advertised.listeners", "advertise"),
    ("node.id", "node-id"),
    ("broker.id", "node-id"),
    ("controller.quorum.voters", "voters"),
];
const PREFIX: &str = "MAINSPRING_";
/// Variables of ours that are no settings of `serve`.
const OTHER_VARIABLES: [&str; 4] = ["CONFIG", "LOG", "TEST_DISK", "BOOTSTRAP"];
const NEXT: &str = "see mainspring serve --help";

/// Everything that `serve` needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// `None` for a node in memory.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listeners: Vec<ListenerOptions>,
    pub(crate) console: Option<HostPort>,
    pub(crate) node_id: NodeId,
    pub(crate) voters: Voters,
    /// Files with the cluster's secrets.
    pub(crate) cluster_secret: Vec<PathBuf>,
    pub(crate) broker: BrokerSettings,
    /// Variables that begin like ours and mean nothing to us.
    pub(crate) unknown_variables: Vec<String>,
}

/// Values by the name of their setting, each with where it came from.
#[derive(Clone, Default, Debug)]
pub(crate) struct Values(BTreeMap<String, Vec<(String, String)>>);

impl Values {
    /// Adds a value of a setting; a setting may have several.
    pub(crate) fn add(&mut self, key: &str, value: impl Into<String>, source: impl Into<String>) {
        let key = KAFKAS.iter().find(|(kafka, _)| *kafka == key).map_or(key, |(_, own)| own);
        self.0.entry(key.to_owned()).or_default().push((value.into(), source.into()));
    }

    /// Takes over what `weaker` has and this has not.
    fn or(mut self, weaker: Self) -> Self {
        for (key, values) in weaker.0 {
            self.0.entry(key).or_insert(values);
        }
        self
    }

    /// Reads the values of a configuration file.
    pub(crate) fn from_file(text: &str, name: &str) -> Result<Self, Failure> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let place = error.span().map_or_else(String::new, |span| {
                format!(" in line {}", text[..span.start].matches('\n').count() + 1)
            });
            Failure::usage(
                format!("cannot read {name}"),
                format!("{}{place}", error.message()),
                "it must be TOML, with lines such as \"log.retention.ms\" = 1000",
            )
        })?;
        let mut values = Self::default();
        values.add_table("", table, name)?;
        Ok(values)
    }

    fn add_table(&mut self, prefix: &str, table: toml::Table, name: &str) -> Result<(), Failure> {
        for (key, value) in table {
            let full = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) if full == "broker" => {
                    self.add_table("", inner, name)?;
                }
                toml::Value::Table(inner) => self.add_table(&full, inner, name)?,
                toml::Value::Array(items) => {
                    for item in items {
                        self.add(&full, scalar(&full, item, name)?, name);
                    }
                }
                toml::Value::String(_)
                | toml::Value::Integer(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)
                | toml::Value::Datetime(_) => self.add(&full, scalar(&full, value, name)?, name),
            }
        }
        Ok(())
    }

    /// Reads the values that variables of the environment give; returns those nobody knows too.
    fn from_variables(variables: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut values = Self::default();
        let mut unknown = Vec::new();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let own = name.to_ascii_lowercase().replace('_', "-");
            let kafkas = name.to_ascii_lowercase().replace('_', ".");
            let with_prefix = format!("mainspring.{kafkas}");
            let is_broker = |key: &str| BrokerSettings::definition(key).is_some();
            if OWN.contains(&own.as_str()) {
                values.add(&own, value, variable);
            } else if KAFKAS.iter().any(|(key, _)| *key == kafkas) || is_broker(&kafkas) {
                values.add(&kafkas, value, variable);
            } else if is_broker(&with_prefix) {
                values.add(&with_prefix, value, variable);
            } else {
                unknown.push(variable.clone());
            }
        }
        (values, unknown)
    }
}

fn scalar(key: &str, value: toml::Value, name: &str) -> Result<String, Failure> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(Failure::usage(
                format!("cannot use {key} of {name}"),
                "it is neither text nor a number nor true or false",
                NEXT,
            ))
        }
    }
}

impl Settings {
    /// Puts the three sources together and checks everything that can be checked without a disk.
    pub(crate) fn resolve(
        flags: Values,
        variables: &BTreeMap<String, String>,
        file: Values,
    ) -> Result<Self, Failure> {
        let (from_variables, unknown_variables) = Values::from_variables(variables);
        let mut values = flags.or(from_variables).or(file);

        let memory = flag(&mut values, "memory")?;
        let insecure = flag(&mut values, "insecure")?;
        let data_dir = match (memory, single(&mut values, "data-dir")?) {
            (true, Some((_, source))) if source == "--data-dir" => {
                return Err(Failure::usage(
                    "cannot use both --memory and --data-dir",
                    "a node in memory opens no file",
                    "leave one of them out",
                ));
            }
            (true, _) => None,
            (false, given) => {
                Some(given.map_or_else(|| "./mainspring-data".into(), |(path, _)| path.into()))
            }
        };
        let console = match single(&mut values, "console")? {
            Some((off, _)) if off == "off" => None,
            Some((address, source)) => {
                let parsed: HostPort = parse(&address, &source)?;
                refuse_exposed("the console", &parsed, insecure)?;
                Some(parsed)
            }
            None => Some(HostPort { host: "127.0.0.1".to_owned(), port: 9780 }),
        };
        let node_id = match single(&mut values, "node-id")? {
            None => None,
            Some((text, source)) => {
                let id = text.trim().parse().ok().filter(|id| *id >= 0);
                Some(id.map(NodeId).ok_or_else(|| {
                    Failure::usage(
                        format!("cannot use {source}={text}"),
                        "a node id is a number from 0 to 2147483647",
                        NEXT,
                    )
                })?)
            }
        };
        let secrets = values.0.remove("cluster-secret").unwrap_or_default();
        let voters = Voters::resolve(Given {
            voters: values.0.remove("voters").unwrap_or_default(),
            listen: single(&mut values, "peer-listen")?
                .map(|(address, source)| parse(&address, &source))
                .transpose()?,
            node_id,
            in_memory: memory,
            has_secret: !secrets.is_empty(),
            insecure,
        })?;
        let listeners = listeners(&mut values, insecure)?;
        let mut broker = BrokerSettings::default();
        for (key, all) in values.0 {
            let source = all[0].1.clone();
            let value = all.into_iter().map(|(value, _)| value).collect::<Vec<_>>().join(",");
            broker.set(&key, &value).map_err(|error| refused(&key, &source, &error))?;
        }
        Ok(Self {
            data_dir,
            listeners,
            console,
            node_id: node_id.unwrap_or(NodeId(1)),
            voters,
            cluster_secret: secrets.into_iter().map(|(path, _)| path.into()).collect(),
            broker,
            unknown_variables,
        })
    }
}

fn listeners(values: &mut Values, insecure: bool) -> Result<Vec<ListenerOptions>, Failure> {
    let mut listen = named(values, "listen")?;
    let advertise = named(values, "advertise")?;
    if listen.is_empty() {
        let address = HostPort { host: "127.0.0.1".to_owned(), port: 9092 };
        listen.push(NamedAddress { name: "PLAINTEXT".to_owned(), address });
    }
    for (index, one) in listen.iter().enumerate() {
        refuse_exposed("a listener", &one.address, insecure)?;
        if listen[..index].iter().any(|other| other.name == one.name) {
            return Err(Failure::usage(
                format!("cannot listen twice as {}", one.name),
                "each listener has a name of its own",
                format!("name the others, as in --listen OUTSIDE://{}", one.address),
            ));
        }
    }
    let stray = advertise.iter().find(|told| listen.iter().all(|one| one.name != told.name));
    if let Some(stray) = stray {
        return Err(Failure::usage(
            format!("cannot advertise {}://{}", stray.name, stray.address),
            format!("no listener is called {}", stray.name),
            format!("add --listen {}://HOST:PORT or use the name of another", stray.name),
        ));
    }
    listen
        .into_iter()
        .map(|NamedAddress { name, address }| {
            let told = advertise.iter().find(|told| told.name == name);
            let told = told.map(|told| told.address.clone());
            if told.as_ref().unwrap_or(&address).is_wildcard() {
                return Err(Failure::usage(
                    format!("cannot advertise {address}"),
                    "clients cannot connect to the address that stands for all",
                    format!("add --advertise {name}://HOST:PORT with a host that clients reach"),
                ));
            }
            Ok(ListenerOptions { name, listen: address, advertise: told, peers: false })
        })
        .collect()
}

/// Reads all addresses of a setting, some of which may stand in one value, divided by commas.
fn named(values: &mut Values, key: &str) -> Result<Vec<NamedAddress>, Failure> {
    let mut all = Vec::new();
    for (value, source) in values.0.remove(key).unwrap_or_default() {
        for part in value.split(',') {
            all.push(parse(part.trim(), &source)?);
        }
    }
    Ok(all)
}

fn refuse_exposed(what: &str, address: &HostPort, insecure: bool) -> Result<(), Failure> {
    if address.is_loopback() || insecure {
        return Ok(());
    }
    Err(Failure::usage(
        format!("will not open {what} on {address}"),
        "without TLS and authentication anybody who reaches it could read and write everything",
        "use a loopback address, or add --insecure if the network is trusted",
    ))
}

fn parse<T: std::str::FromStr<Err = String>>(text: &str, source: &str) -> Result<T, Failure> {
    text.parse().map_err(|why: String| Failure::usage(format!("cannot use {source}"), why, NEXT))
}

fn single(values: &mut Values, key: &str) -> Result<Option<(String, String)>, Failure> {
    let mut all = values.0.remove(key).unwrap_or_default();
    if all.len() > 1 {
        return Err(Failure::usage(
            format!("cannot use {key} more than once"),
            format!("{} values were given", all.len()),
            "leave one",
        ));
    }
    Ok(all.pop())
}

fn flag(values: &mut Values, key: &str) -> Result<bool, Failure> {
    let Some((text, source)) = single(values, key)? else { return Ok(false) };
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        other => Err(Failure::usage(
            format!("cannot use {source}={other}"),
            format!("{key} is true or false"),
            NEXT,
        )),
    }
}

fn refused(key: &str, source: &str, error: &ConfigError) -> Failure {
    let what = format!("cannot use the setting {key} of {source}");
    if BrokerSettings::definition(key).is_some() {
        return Failure::usage(what, error, "correct it or leave it out");
    }
    let known = OWN
        .iter()
        .copied()
        .chain(KAFKAS.iter().map(|(kafka, _)| *kafka))
        .chain(BROKER_SETTINGS.iter().map(|def| def.name));
    let nearest = known.min_by_key(|known| distance(key, known)).unwrap_or("listen");
    Failure::usage(what, "nobody knows it", format!("did you mean {nearest}?"))
}

/// Counts the characters to insert, delete or replace between two texts.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        flags: &[(&str, &str)],
        variables: &[(&str, &str)],
        file: &str,
    ) -> Result<Settings, Failure> {
        let mut given = Values::default();
        for (key, value) in flags {
            given.add(key, *value, format!("--{key}"));
        }
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::resolve(given, &variables, Values::from_file(file, "mainspring.toml")?)
    }

    fn line(result: Result<Settings, Failure>) -> String {
        let failure = result.expect_err("it is refused");
        assert!(!failure.why.is_empty() && !failure.next.is_empty(), "{failure:?}");
        failure.to_string()
    }

    #[test]
    fn nothing_said_is_a_broker_on_loopback_with_a_directory() {
        let settings = resolve(&[], &[], "").expect("the defaults are fine");
        assert_eq!(settings.data_dir, Some("./mainspring-data".into()));
        assert_eq!(settings.listeners.len(), 1);
        assert_eq!(settings.listeners[0].listen.to_string(), "127.0.0.1:9092");
        assert_eq!(settings.console.expect("it is on").to_string(), "127.0.0.1:9780");
        assert_eq!(settings.node_id, NodeId(1));
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_that_over_the_file() {
        let file = "num.partitions = 3\nnode-id = 3\n[broker]\nlog.retention.ms = 3";
        let variables = [("MAINSPRING_NODE_ID", "2"), ("MAINSPRING_LOG_RETENTION_MS", "2")];
        let settings = resolve(&[("node.id", "1")], &variables, file).expect("all are valid");
        assert_eq!(settings.node_id, NodeId(1));
        assert_eq!(settings.broker.text("log.retention.ms"), "2");
        assert_eq!(settings.broker.text("num.partitions"), "3");
    }

    #[test]
    fn variables_of_others_that_begin_like_ours_are_named_and_no_error() {
        let variables = [
            ("MAINSPRING_SERVICE_HOST", "10.0.0.1"),
            ("MAINSPRING_LOG", "debug"),
            ("MAINSPRING_PRODUCER_IDS_MAX", "7000"),
            ("HOME", "/root"),
        ];
        let settings = resolve(&[], &variables, "").expect("they are no error");
        assert_eq!(settings.unknown_variables, ["MAINSPRING_SERVICE_HOST"]);
        assert_eq!(settings.broker.text("mainspring.producer.ids.max"), "7000");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let text = line(resolve(&[], &[], "\"log.retension.ms\" = 5"));
        assert!(text.contains("did you mean log.retention.ms?"), "{text}");
        assert!(text.contains("mainspring.toml"), "{text}");
        let text = line(resolve(&[("datadir", "x")], &[], ""));
        assert!(text.contains("did you mean data-dir?"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_its_line() {
        let text = line(resolve(&[], &[], "a = 1\nlog.retention.ms=\n"));
        assert!(text.contains("in line 2"), "{text}");
    }

    #[test]
    fn an_address_for_everybody_needs_a_word_for_it_and_an_advertised_one() {
        let everywhere = ("listen", "0.0.0.0:9092");
        assert!(line(resolve(&[everywhere], &[], "")).contains("--insecure"));
        let insecure = ("insecure", "true");
        assert!(line(resolve(&[everywhere, insecure], &[], "")).contains("--advertise"));
        let told = ("advertise", "broker.example:9092");
        let settings = resolve(&[everywhere, insecure, told], &[], "").expect("it is complete");
        let advertised = settings.listeners[0].advertise.clone().expect("it was given");
        assert_eq!(advertised.to_string(), "broker.example:9092");
        let console = ("console", "0.0.0.0:1");
        assert!(line(resolve(&[console], &[], "")).contains("--insecure"));
    }

    #[test]
    fn several_listeners_have_names_of_their_own() {
        let flags = [
            ("listen", "127.0.0.1:1"),
            ("listen", "OUT://127.0.0.1:2"),
            ("advertise", "OUT://h:3"),
        ];
        let settings = resolve(&flags, &[], "").expect("they are named");
        assert_eq!(settings.listeners[1].name, "OUT");
        assert!(settings.listeners[0].advertise.is_none());
        let twice = resolve(&[], &[], "listeners = \"A://localhost:1,A://localhost:2\"");
        assert!(line(twice).contains("twice as A"));
        let stray = resolve(&[("advertise", "B://h:1")], &[], "");
        assert!(line(stray).contains("no listener is called B"));
    }

    #[test]
    fn the_voters_of_a_cluster_come_from_flag_variable_or_file() {
        let two = "1@127.0.0.1:1,2@127.0.0.1:2";
        let node = ("node-id", "2");
        let of = |settings: Settings| settings.voters.peers.len();
        let by_flag = resolve(&[node, ("voters", two)], &[], "").expect("by flag");
        assert_eq!(of(by_flag), 2);
        let variables = [("MAINSPRING_VOTERS", two), ("MAINSPRING_PEER_LISTEN", "127.0.0.1:9")];
        let by_variable = resolve(&[node], &variables, "").expect("by variable");
        let listener = by_variable.voters.listener.clone().expect("it has peers");
        assert_eq!(listener.listen.port, 9);
        assert_eq!(of(by_variable), 2);
        let file = "voters = [\"1@127.0.0.1:1\", \"2@127.0.0.1:2\"]";
        assert_eq!(of(resolve(&[node], &[], file).expect("by file")), 2);
        let kafkas = format!("controller.quorum.voters = \"{two}\"");
        assert_eq!(of(resolve(&[node], &[], &kafkas).expect("by Kafka's name")), 2);
    }

    #[test]
    fn files_with_the_secret_come_from_flag_variable_or_file() {
        let voters = [("node-id", "1"), ("voters", "1@one.example:7,2@two.example:7")];
        let of =
            |settings: Result<Settings, Failure>| settings.expect("it is there").cluster_secret;
        let twice = [&voters[..], &[("cluster-secret", "new"), ("cluster-secret", "old")]].concat();
        let both: [PathBuf; 2] = ["new".into(), "old".into()];
        assert_eq!(of(resolve(&twice, &[], "")), both);
        assert_eq!(of(resolve(&voters, &[], "cluster-secret = [\"new\", \"old\"]")), both);
        let variable = [("MAINSPRING_CLUSTER_SECRET", "new")];
        assert_eq!(of(resolve(&voters, &variable, "cluster-secret = \"old\"")), both[..1]);
        let text = line(resolve(&voters, &[], ""));
        assert!(
            text.contains("mainspring cluster secret") && text.contains("--insecure"),
            "{text}"
        );
    }

    #[test]
    fn memory_and_a_directory_exclude_each_other() {
        let memory = ("memory", "true");
        assert!(line(resolve(&[memory, ("data-dir", "x")], &[], "")).contains("leave one"));
        let settings = resolve(&[memory], &[], "data-dir = \"x\"").expect("the flag wins");
        assert_eq!(settings.data_dir, None);
    }
}
