//! Packs around the stand-in: a folder that looks to the host like an unzipped WSO2 product, and a JAVA_HOME.
//!
//! Everything in a pack is our own writing. It costs a few milliseconds and about 100 kB; `java` is a hard link.

mod batch;
mod lease;
mod product;
mod resources;
mod script;
mod teardown;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::lease::{LeaseError, OffsetLease};
pub use self::product::{Distribution, Product, UnknownProduct};
pub use self::teardown::Teardown;

use crate::standin::{self, Misbehaviour};

/// What to make.
#[derive(Debug, Clone)]
pub struct PackSpec {
    pub product: Product,
    /// The built `convoy-standin`.
    pub java: PathBuf,
    /// `[server] offset` of the shipped deployment.toml.
    pub offset: u16,
    /// What `java -version` says; one that the product takes unless told otherwise.
    pub jdk_version: String,
    /// Written to the home unless it is the default.
    pub misbehaviour: Misbehaviour,
}

impl PackSpec {
    /// A pack without faults, at offset 0.
    pub fn new(product: Product, java: impl Into<PathBuf>) -> PackSpec {
        PackSpec {
            product,
            java: java.into(),
            offset: 0,
            jdk_version: product.jdk_version().to_owned(),
            misbehaviour: Misbehaviour::default(),
        }
    }
}

/// A pack on disk.
#[derive(Debug, Clone)]
pub struct Pack {
    pub product: Product,
    /// CARBON_HOME.
    pub home: PathBuf,
    pub java_home: PathBuf,
}

impl Pack {
    /// Puts the JDBC driver of MySQL where the product wants it, as far as anybody looks into it: a jar with its class.
    pub fn add_driver(&self) -> io::Result<()> {
        let lib = self.home.join("repository/components/lib");
        fs::create_dir_all(&lib)?;
        let jar = fs::File::create(lib.join("mysql-connector.jar"))?;
        let mut archive = rawzip::ZipArchiveWriter::new(jar);
        let entry = archive.new_file("com/mysql/cj/jdbc/Driver.class");
        let entry = entry.compression_method(rawzip::CompressionMethod::STORE).start();
        let (mut entry, config) = entry.map_err(io::Error::other)?;
        let (_, descriptor) = config.wrap(&mut entry).finish().map_err(io::Error::other)?;
        entry.finish(descriptor).map_err(io::Error::other)?;
        archive.finish().map_err(io::Error::other)?;
        Ok(())
    }

    /// The start script to use.
    pub fn script(&self) -> PathBuf {
        self.home.join("bin").join(format!("{}.sh", self.product.scripts()[0]))
    }

    pub fn deployment_toml(&self) -> PathBuf {
        self.home.join("repository/conf/deployment.toml")
    }

    /// The main log.
    pub fn carbon_log(&self) -> PathBuf {
        self.home.join("repository/logs/wso2carbon.log")
    }

    /// Changes how the server behaves: keys marked *live* at once, the others at the next start.
    pub fn misbehave(&self, misbehaviour: &Misbehaviour) -> io::Result<()> {
        misbehaviour.write(&self.home)
    }
}

/// Why a pack could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot install {java} as {to}")]
    Java { java: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("{0} is there already; remove it or choose another directory")]
    Exists(PathBuf),
}

/// Makes `<dir>/<pack name>` and, once for all packs of `dir`, `<dir>/jdk`.
pub fn generate(dir: &Path, spec: &PackSpec) -> Result<Pack, PackError> {
    // Scripts resolve their own directory; an absolute home makes `-Dcarbon.home=` the same text everywhere.
    let failed = |source| PackError::Write { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let dir = dir.canonicalize().map_err(failed)?;
    let home = dir.join(spec.product.pack_name());
    if home.exists() {
        return Err(PackError::Exists(home));
    }
    let pack = Pack { product: spec.product, home, java_home: dir.join("jdk") };
    install_java(&pack.java_home, spec)?;
    write_bin(&pack)?;
    for (path, text) in resources::files(spec) {
        write(&pack.home.join(path), text.as_bytes(), Mode::Plain)?;
    }
    for (name, content) in resources::KEYSTORES {
        write(&pack.home.join("repository/resources/security").join(name), content, Mode::Plain)?;
    }
    for directory in ["repository/logs", "tmp", "repository/deployment/server/webapps", "repository/database"]
    {
        let path = pack.home.join(directory);
        fs::create_dir_all(&path).map_err(|source| PackError::Write { path, source })?;
    }
    let tls = standin::listen::self_signed().map_err(PackError::Certificate)?;
    write(&pack.home.join(standin::listen::TLS_FILE), tls.as_bytes(), Mode::Secret)?;
    if spec.misbehaviour != Misbehaviour::default() {
        pack.misbehave(&spec.misbehaviour).map_err(|source| PackError::Write {
            path: pack.home.join(standin::MISBEHAVIOUR_FILE),
            source,
        })?;
    }
    Ok(pack)
}

fn write_bin(pack: &Pack) -> Result<(), PackError> {
    let product = pack.product;
    let bin = pack.home.join("bin");
    for name in product.scripts() {
        write(
            &bin.join(format!("{name}.sh")),
            script::start_script(product, name).as_bytes(),
            Mode::Program,
        )?;
        write(&bin.join(format!("{name}.bat")), batch::start_script(product).as_bytes(), Mode::Plain)?;
    }
    if !product.profiles().is_empty() {
        write(&bin.join("profileSetup.sh"), script::profile_setup(product).as_bytes(), Mode::Program)?;
        write(&bin.join("profileSetup.bat"), batch::profile_setup(product).as_bytes(), Mode::Plain)?;
    }
    if product.has_diagnostics() {
        let path = pack.home.join("diagnostics-tool/bin/diagnostics.sh");
        write(&path, script::DIAGNOSTICS_SCRIPT.as_bytes(), Mode::Program)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Mode {
    Plain,
    Program,
    Secret,
}

fn write(path: &Path, content: &[u8], mode: Mode) -> Result<(), PackError> {
    let failed = |source| PackError::Write { path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    fs::write(path, content).map_err(failed)?;
    set_mode(path, mode).map_err(failed)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: Mode) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let bits = match mode {
        Mode::Plain => 0o644,
        Mode::Program => 0o755,
        Mode::Secret => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: Mode) -> io::Result<()> {
    Ok(())
}

fn install_java(java_home: &Path, spec: &PackSpec) -> Result<(), PackError> {
    let release = java_home.join("release");
    if release.exists() {
        return Ok(());
    }
    let to = java_home.join("bin").join(format!("java{}", std::env::consts::EXE_SUFFIX));
    let failed = |source| PackError::Java { java: spec.java.clone(), to: to.clone(), source };
    fs::create_dir_all(java_home.join("bin")).map_err(failed)?;
    // A hard link costs nothing, but not every file system pair allows it.
    fs::hard_link(&spec.java, &to).or_else(|_| fs::copy(&spec.java, &to).map(drop)).map_err(failed)?;
    let text = format!("IMPLEMENTOR=\"stand-in\"\nJAVA_VERSION=\"{}\"\n", spec.jdk_version);
    write(&release, text.as_bytes(), Mode::Plain)
}
