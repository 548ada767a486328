//! `test` and `check`. Both lint and test the whole workspace at once: with one set of features nothing is built
//! twice, and on two cores that is most of the time.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::cargo::{cargo, has, step};

/// Tells the end-to-end tests that the programs are fresh, so that they need not ask cargo themselves.
const PROGRAMS_ARE_BUILT: (&str, &str) = ("CONVOY_TEST_PROGRAMS", "built");

/// The model simulation, which is built with a profile of its own, `sim`.
const SIMULATION: &str = "convoy-simulation";

/// How much more of what is tried at random the long form tries. Each is read by the test of that name's area; the
/// defaults beside them are what an ordinary run can afford.
const THOROUGH: [(&str, &str); 6] = [
    ("SIM_SEEDS", "20000"),
    ("CONVOY_KILLS", "1000"),
    ("CONVOY_ORIGINAL_KILLS", "1000"),
    ("KILLS", "250"),
    ("STORM_ORDERS", "800"),
    ("FUZZ_SECONDS", "60"),
];

/// Everything that has to hold. `thorough`: ten times as much of what is tried at random.
pub fn test(words: &[String], thorough: bool) -> Result<ExitCode> {
    #[cfg(target_os = "linux")]
    crate::packages::for_tests();
    lint()?;
    // At once: the tests' programs and the tests themselves share every dependency's build. Benchmarks were type-checked.
    step(
        "build",
        cargo().args([
            "build",
            "--workspace",
            "--exclude",
            SIMULATION,
            "--lib",
            "--bins",
            "--tests",
            "--locked",
        ]),
    )?;
    run(words, "", |runner| {
        if thorough {
            runner.envs(THOROUGH);
        }
        Ok(())
    })?;
    if words.is_empty() {
        elsewhere()?;
    } else {
        println!("\n=== windows, macos: left out, since only some tests were asked for");
    }
    println!("\nAll checks and tests passed.");
    Ok(ExitCode::SUCCESS)
}

/// Runs the tests: those of the simulation, which are built now with a profile of their own, and all others, which are
/// built. Both run, whatever comes of the first. `when` completes their titles.
fn run(words: &[String], when: &str, prepare: impl Fn(&mut Command) -> Result<()>) -> Result<()> {
    let simulation = runner("sim", &["--package", SIMULATION], words);
    let others = runner("dev", &["--workspace", "--exclude", SIMULATION], words);
    let run = |(name, mut runner): (&str, Command)| {
        prepare(&mut runner)?;
        step(&format!("{name}{when}"), &mut runner)
    };
    let ended = [("simulation", simulation), ("tests", others)].map(run);
    ended.into_iter().collect()
}

/// nextest, or what Rust brings where it is not installed.
fn runner(profile: &str, packages: &[&str], words: &[String]) -> Command {
    let mut runner = cargo();
    runner.env(PROGRAMS_ARE_BUILT.0, PROGRAMS_ARE_BUILT.1).env("INSTA_UPDATE", "no");
    if has("nextest") {
        runner.args(["nextest", "run", "--cargo-profile", profile]);
        if !words.is_empty() {
            // They may name tests of the other profile alone.
            runner.args(["--no-tests", "pass"]);
        }
    } else {
        runner.args(["test", "--profile", profile, "--lib", "--bins", "--tests"]);
    }
    runner.args(["--locked", "--no-fail-fast"]).args(packages).args(words);
    runner
}

/// All tests once more, 400 days ahead; they are built already.
///
/// # Errors
/// One of them depends on the day, or the clock cannot be moved here.
#[cfg(target_os = "linux")]
pub fn test_later(words: &[String]) -> Result<ExitCode> {
    run(words, ", 400 days ahead", crate::later::move_ahead)?;
    println!("\nNo test depends on the day.");
    Ok(ExitCode::SUCCESS)
}

/// The same code for Windows and macOS, where their toolchains are on the machine; says so where they are not.
#[cfg(unix)]
fn elsewhere() -> Result<()> {
    crate::windows::where_present()?;
    crate::macos::where_present()
}

#[cfg(not(unix))]
fn elsewhere() -> Result<()> {
    Ok(())
}

/// What needs no test run.
pub fn check() -> Result<ExitCode> {
    lint()?;
    step("tidy", cargo().args(["test", "--locked", "-p", "convoy-cli", "--test", "tidy"]))?;
    if has("deny") {
        // Advisories need a database from the network; licences, bans and sources do not. They do need every crate of
        // every platform, and a build brings only this one's.
        step("fetch", cargo().args(["fetch", "--locked", "--quiet"]))?;
        step("deny", cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    } else {
        println!("\n=== deny: skipped, cargo-deny is not installed");
    }
    println!("\nAll checks passed.");
    Ok(ExitCode::SUCCESS)
}

fn lint() -> Result<()> {
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    let mut clippy: Command = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    step("lints", &mut clippy)?;
    without_features()
}

/// The whole workspace is built with the feature `otel`; what is released is not.
fn without_features() -> Result<()> {
    let mut traces = cargo();
    traces.args(["clippy", "-p", "convoy-traces", "--all-targets", "--locked", "--", "-D", "warnings"]);
    step("lints without otel", &mut traces)?;
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build", "--target", "all"]);
    tree.args(["-p", "convoy-cli", "-p", "convoy-coordinator", "-p", "convoy-agent"]);
    let output = tree.output()?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let crates = String::from_utf8(output.stdout)?;
    ensure!(crates.contains("convoy-traces"), "cargo tree does not list the crates of the programs");
    let foreign = crates.lines().find(|line| line.starts_with("opentelemetry"));
    ensure!(foreign.is_none(), "released programs would depend on {foreign:?}: a feature is on by default");
    Ok(())
}
