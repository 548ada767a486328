//! Two programs in one file: under the name `java` it is a server (see `convoy_tests::standin`), under its own
//! name it makes packs around itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use convoy_tests::pack::{self, PackSpec, Product};
use convoy_tests::standin;

/// Makes packs of stand-in servers.
#[derive(Parser)]
#[command(name = "convoy-standin", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a pack `DIR/<pack name>` and a JAVA_HOME `DIR/jdk`, and prints both.
    Pack {
        /// For example wso2is-7.2, wso2am-4.5.0, wso2am-universal-gw-4.6 or wso2am-4.2-gateway-worker.
        #[arg(long)]
        product: Product,
        /// Where to; made if missing.
        #[arg(long)]
        out: PathBuf,
        /// `[server] offset` of the shipped deployment.toml.
        #[arg(long, default_value_t = 0)]
        offset: u16,
        /// What `java -version` says; a version that the product takes by default.
        #[arg(long)]
        jdk: Option<String>,
        /// A misbehaviour file to put into the home.
        #[arg(long)]
        misbehaviour: Option<PathBuf>,
    },
    /// Lists the products that packs can be made of.
    Products,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_stem().is_some_and(|stem| stem == "java") {
        return ExitCode::from(standin::java(arguments));
    }
    match run(Args::parse().command) {
        Ok(text) => {
            drop(std::io::stdout().write_all(text.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            drop(writeln!(std::io::stderr(), "convoy-standin: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<String> {
    match command {
        Command::Pack { product, out, offset, jdk, misbehaviour } => {
            let java = std::env::current_exe().context("cannot find this program's own file")?;
            let mut spec = PackSpec::new(product, java);
            spec.offset = offset;
            spec.jdk_version = jdk.unwrap_or(spec.jdk_version);
            if let Some(path) = misbehaviour {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                spec.misbehaviour =
                    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
            }
            let pack = pack::generate(&out, &spec)?;
            Ok(format!("home      {}\njava_home {}\n", pack.home.display(), pack.java_home.display()))
        }
        Command::Products => Ok(Product::all().map(|product| format!("{product}\n")).collect()),
    }
}
