//! Jars as `rawzip` writes them, one as the JDK at hand does, and files that are none.

use std::{fs, io::Write as _, path::Path};

use fleet::bundle::ServiceSettings;

use super::*;

fn jar(names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for name in names {
        let (mut entry, config) =
            archive.new_file(*name).compression_method(rawzip::CompressionMethod::STORE).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(b"x").unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

struct Host {
    dir: tempfile::TempDir,
    subject: Subject,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        let settings: ServiceSettings = super::super::tests::settings(&home);
        Self { subject: Subject::on_disk(settings), dir }
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = Path::new(&self.subject.settings.home).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn fact(&self, wanted: Wanted) -> ComponentFact {
        let component = Component { key: "database.x.type".to_owned(), wanted };
        look(&self.subject, vec![component]).remove(0).1
    }

    fn driver(&self) -> ComponentFact {
        self.fact(Wanted::Driver(vec!["com.acme.Driver".to_owned(), "com.acme.next.Driver".to_owned()]))
    }
}

fn found(path: &str) -> ComponentFact {
    ComponentFact::Found(path.to_owned())
}

#[test]
fn a_driver_is_found_by_its_class_wherever_the_server_loads_jars_from() {
    for dir in JAR_DIRS {
        let host = Host::new();
        host.write("repository/components/lib/other.jar", &jar(&["com/acme/Drivers.class", "a/b/C.class"]));
        host.write("repository/components/lib/README.txt", b"com/acme/Driver.class");
        assert_eq!(host.driver(), ComponentFact::Absent);
        host.write(
            &format!("{dir}/acme-1.0.jar"),
            &jar(&["META-INF/MANIFEST.MF", "com/acme/next/Driver.class"]),
        );
        assert_eq!(host.driver(), found(&format!("{dir}/acme-1.0.jar")));
    }
}

#[test]
fn a_home_without_any_jar_has_no_driver() {
    assert_eq!(Host::new().driver(), ComponentFact::Absent);
}

#[test]
fn a_driver_that_the_bundle_brings_counts_before_it_is_in_place() {
    let mut host = Host::new();
    let kept = host.dir.path().join("kept");
    fs::write(&kept, jar(&["com/acme/Driver.class"])).unwrap();
    let path = "repository/components/lib/acme.jar";
    // What lies there now is replaced by it.
    host.write(path, &jar(&["com/acme/Old.class"]));
    host.subject.staged.insert(HomePath::parse(path).unwrap(), kept);
    assert_eq!(host.driver(), found(path));
}

#[test]
fn what_cannot_be_looked_into_makes_nothing_absent() {
    let host = Host::new();
    host.write(
        "repository/components/dropins/wrapped_1.0.0.jar",
        &jar(&["META-INF/MANIFEST.MF", "acme.jar"]),
    );
    host.write("repository/components/lib/broken.jar", b"no zip at all");
    // The product's own bundles often hold jars.
    host.write("repository/components/plugins/shipped.jar", &jar(&["inner.jar"]));
    let doubtful =
        ["repository/components/lib/broken.jar", "repository/components/dropins/wrapped_1.0.0.jar"];
    assert_eq!(host.driver(), ComponentFact::Unsure(doubtful.map(str::to_owned).to_vec()));
}

#[cfg(unix)]
#[test]
fn no_link_leads_to_a_driver() {
    let host = Host::new();
    let outside = host.dir.path().join("acme.jar");
    fs::write(&outside, jar(&["com/acme/Driver.class"])).unwrap();
    host.write("repository/components/lib/x.txt", b"");
    let lib = Path::new(&host.subject.settings.home).join("repository/components/lib");
    std::os::unix::fs::symlink(&outside, lib.join("acme.jar")).unwrap();
    assert_eq!(host.driver(), ComponentFact::Unsure(vec!["repository/components/lib/acme.jar".to_owned()]));
    let moved = Path::new(&host.subject.settings.home).join("repository/components/dropins");
    std::os::unix::fs::symlink(host.dir.path(), moved).unwrap();
    assert!(matches!(host.driver(), ComponentFact::NotLooked(why) if why.contains("dropins")));
}

#[test]
fn connectors_are_known_by_name_and_web_applications_packed_or_not() {
    let host = Host::new();
    let connector = || host.fact(Wanted::Connector("wso2is.key.manager.core"));
    let webapp = || host.fact(Wanted::Webapp("keymanager-operations"));
    assert_eq!((connector(), webapp()), (ComponentFact::Absent, ComponentFact::Absent));
    let core = "repository/components/dropins/wso2is.key.manager.core-1.5.0.jar";
    host.write(core, &jar(&[]));
    assert_eq!(connector(), found(core));
    host.write(&format!("{WEBAPPS}/keymanager-operations/WEB-INF/web.xml"), b"<web-app/>");
    assert_eq!(webapp(), found(&format!("{WEBAPPS}/keymanager-operations")));
    fs::remove_dir_all(Path::new(&host.subject.settings.home).join(WEBAPPS)).unwrap();
    host.write(&format!("{WEBAPPS}/keymanager-operations.war"), b"");
    assert_eq!(webapp(), found(&format!("{WEBAPPS}/keymanager-operations.war")));
}

/// A file whose directory claims more than there is: it is given up, and nothing is allocated by what it claims.
#[test]
fn a_jar_with_a_wild_directory_is_given_up() {
    let host = Host::new();
    let mut bytes = jar(&["a/B.class"; 3]);
    let end = bytes.len() - 22;
    // Number of entries, and where they begin.
    bytes[end + 8..end + 12].copy_from_slice(&[0xFF; 4]);
    bytes[end + 16..end + 20].copy_from_slice(&[0xF0, 0xFF, 0xFF, 0x7F]);
    host.write("repository/components/lib/wild.jar", &bytes);
    assert_eq!(host.driver(), ComponentFact::Unsure(vec!["repository/components/lib/wild.jar".to_owned()]));
}

#[test]
fn what_the_running_server_uses_is_not_missing_for_certain() {
    let driver = |name: &str| Component {
        key: "database.x.type".to_owned(),
        wanted: Wanted::Driver(vec![name.to_owned()]),
    };
    let mut facts = vec![
        (driver("a.Driver"), ComponentFact::Absent),
        (driver("b.Driver"), ComponentFact::Absent),
        (driver("c.Driver"), found("c.jar")),
    ];
    excuse(&mut facts, &[driver("a.Driver"), driver("c.Driver")]);
    let facts: Vec<ComponentFact> = facts.into_iter().map(|(_, fact)| fact).collect();
    assert_eq!(facts, [ComponentFact::InUse, ComponentFact::Absent, found("c.jar")]);
}
