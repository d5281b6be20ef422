//! Says so where the flag that swaps the runtime and `cargo sim`, which sets it, do not come together.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MAINSPRING_SIM");
    let is_wanted = std::env::var_os("MAINSPRING_SIM").is_some();
    let is_set = std::env::var_os("CARGO_CFG_MADSIM").is_some();
    if is_wanted && !is_set {
        println!(
            "cargo::error=`cargo sim` asks for the deterministic runtime, but --cfg madsim has not \
             come through: RUSTFLAGS or a configuration file overrides it"
        );
    }
    if is_set && !is_wanted {
        println!(
            "cargo::warning=--cfg madsim without `cargo sim`, which has a target directory of its own"
        );
    }
}
