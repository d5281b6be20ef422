//! Settings of clients by Kafka's names.

use mainspring_core::client::consumer::ConsumerConfig;
use mainspring_core::client::producer::ProducerConfig;
use mainspring_core::client::settings::{
    self, AdminConfig, ClientKind, SettingError, parse_bootstrap,
};
use mainspring_core::ids::TopicName;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::error_with;
use crate::guard::guarded;

/// Reads the settings of a producer.
pub(crate) fn producer(
    py: Python<'_>,
    bootstrap: &str,
    given: &[(String, String)],
) -> PyResult<ProducerConfig> {
    parse_bootstrap(bootstrap)
        .and_then(|bootstrap| settings::producer_config(bootstrap, given))
        .map_err(|refusal| config_error(py, &refusal))
}

/// Reads the settings of a consumer.
pub(crate) fn consumer(
    py: Python<'_>,
    bootstrap: &str,
    given: &[(String, String)],
) -> PyResult<ConsumerConfig> {
    parse_bootstrap(bootstrap)
        .and_then(|bootstrap| settings::consumer_config(bootstrap, given))
        .map_err(|refusal| config_error(py, &refusal))
}

/// Reads the settings of an administrative client.
pub(crate) fn admin(
    py: Python<'_>,
    bootstrap: &str,
    given: &[(String, String)],
) -> PyResult<AdminConfig> {
    parse_bootstrap(bootstrap)
        .and_then(|bootstrap| settings::admin_config(bootstrap, given))
        .map_err(|refusal| config_error(py, &refusal))
}

/// Returns every setting of a kind of client: name, default, and what it does.
#[pyfunction]
pub(crate) fn client_settings(
    kind: &str,
) -> PyResult<Vec<(&'static str, &'static str, &'static str)>> {
    guarded(|| {
        let settings = settings::client_settings(kind_of(kind)?);
        Ok(settings.map(|def| (def.name, def.default, def.documentation)).collect())
    })
}

/// Returns what is wrong with the name of a topic, in words; `None` where nothing is.
#[pyfunction]
pub(crate) fn explain_topic(name: &str) -> Option<&'static str> {
    TopicName::parse(name).err()
}

/// Returns what is wrong with the name of a setting, and the name that was probably meant;
/// `None` where nothing is.
#[pyfunction]
pub(crate) fn explain_setting(
    kind: &str,
    name: &str,
) -> PyResult<Option<(String, Option<&'static str>)>> {
    guarded(|| {
        let kind = kind_of(kind)?;
        let refused = settings::find_setting(kind, name).err();
        Ok(refused.map(|refusal| (refusal.to_string(), refusal.meant())))
    })
}

/// Checks where brokers are, and settings, as opening a client does; connects to nothing.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "Python hands over a list")]
pub(crate) fn check_settings(
    py: Python<'_>,
    kind: &str,
    bootstrap: &str,
    given: Vec<(String, String)>,
) -> PyResult<()> {
    guarded(|| match kind_of(kind)? {
        ClientKind::Producer => producer(py, bootstrap, &given).map(drop),
        ClientKind::Consumer => consumer(py, bootstrap, &given).map(drop),
        ClientKind::Admin => admin(py, bootstrap, &given).map(drop),
    })
}

fn kind_of(name: &str) -> PyResult<ClientKind> {
    ClientKind::from_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("{name} is no kind of client")))
}

fn config_error(py: Python<'_>, refusal: &SettingError) -> PyErr {
    let context = refusal.name().map(|name| ("setting", name.to_owned()));
    error_with(py, "ConfigError", refusal, context.as_slice())
}
