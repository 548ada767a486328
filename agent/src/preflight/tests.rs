use std::{fs, net::TcpListener, time::Duration};

#[cfg(unix)]
use fleet::bundle::Port;
use fleet::bundle::{RestartPolicy, Thresholds};

use super::*;

/// A home with a version, a script and a configuration, and settings that fit it.
struct Host {
    dir: tempfile::TempDir,
    settings: ServiceSettings,
}

impl Host {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("bin/version.txt", "WSO2 Identity Server v7.2.0\n");
        write("bin/wso2server.sh", "#!/bin/sh\n");
        write("bin/wso2server.bat", "@echo off\r\n");
        write("repository/conf/deployment.toml", config);
        let settings = settings(dir.path());
        Self { dir, settings }
    }

    async fn said(&self, name: &str) -> Vec<String> {
        let checks = run(&Subject::on_disk(self.settings.clone())).await;
        let line = |check: &Check| format!("{} {check}", check.outcome.as_str());
        checks.iter().filter(|check| check.name == name).map(line).collect()
    }
}

pub(super) fn settings(home: &Path) -> ServiceSettings {
    let path = |text| HomePath::parse(text).unwrap();
    let secs = Duration::from_secs;
    ServiceSettings {
        product: "wso2is-7.2".to_owned(),
        home: home.to_string_lossy().into_owned(),
        script_unix: path("bin/wso2server.sh"),
        script_windows: path("bin/wso2server.bat"),
        config_path: path("repository/conf/deployment.toml"),
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 0,
        ports: Vec::new(),
        probes: Vec::new(),
        ready_lines: Vec::new(),
        start_deadline: secs(300),
        stop_deadline: secs(120),
        thresholds: Thresholds { period: secs(10), failure: 3, success: 1, grace: secs(60) },
        restart_policy: RestartPolicy {
            exits_max: 3,
            window: secs(600),
            delay: secs(5),
            delay_max: secs(300),
        },
        unhealthy_restarts: false,
        check_databases: false,
        owned_keys: Vec::new(),
        jdk: (11, Some(21)),
    }
}

/// A JAVA_HOME whose java says this.
#[cfg(unix)]
fn java_home(dir: &Path, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = dir.join("jdk/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("java"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(bin.join("java"), fs::Permissions::from_mode(0o755)).unwrap();
    dir.join("jdk").to_string_lossy().into_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn java_is_asked_without_the_agents_environment() {
    let mut host = Host::new("");
    let script = "[ -z \"$HOME\" ] || exit 3\necho 'openjdk version \"17.0.15\" 2025-04-15' >&2";
    host.settings.java_home = Some(java_home(host.dir.path(), script));
    assert!(host.said("jdk").await[0].starts_with("pass jdk: JDK 17"), "{:?}", host.said("jdk").await);
    host.settings.java_home = Some(java_home(host.dir.path(), "exit 1"));
    assert!(host.said("jdk").await[0].contains("does not run"), "{:?}", host.said("jdk").await);
    host.settings.java_home = Some("/no/such/jdk".to_owned());
    assert!(host.said("jdk").await[0].starts_with("fail jdk"), "{:?}", host.said("jdk").await);
}

#[cfg(unix)]
#[tokio::test]
async fn a_home_of_the_agents_user_passes() {
    let host = Host::new("");
    for name in ["pack", "script", "owner", "files"] {
        assert!(host.said(name).await[0].starts_with("pass"), "{:?}", host.said(name).await);
    }
    fs::remove_file(host.dir.path().join("bin/wso2server.sh")).unwrap();
    assert!(host.said("script").await[0].starts_with("fail script"), "{:?}", host.said("script").await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_port_in_other_hands_is_named_with_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = listener.local_addr().unwrap().port();
    let mut host = Host::new("");
    host.settings.ports = vec![Port { name: "https".to_owned(), number, required: true }];
    let said = host.said("port").await;
    let holder = format!("(pid {})", std::process::id());
    assert!(said[0].starts_with(&format!("fail port https {number}: held by")), "{said:?}");
    assert!(said[0].contains(&holder), "{said:?}");
    drop(listener);
    assert_eq!(host.said("port").await, [format!("pass port https {number}: free")]);
}

#[tokio::test]
async fn a_data_source_is_reached_or_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = |port: u16| {
        format!("[database.shared_db]\nurl = \"jdbc:mysql://127.0.0.1:{port}/x\"\npassword = \"hushhush\"\n")
    };
    let said = Host::new(&config(port)).said("endpoint").await;
    assert!(said[0].starts_with("pass endpoint database.shared_db: 127.0.0.1:"), "{said:?}");
    drop(listener);
    let said = Host::new(&config(port)).said("endpoint").await;
    assert!(said[0].starts_with("fail endpoint database.shared_db: 127.0.0.1:"), "{said:?}");
}

#[tokio::test]
async fn the_staged_configuration_and_keystore_are_judged_not_those_on_disk() {
    let old = "[keystore.primary]\nfile_name = \"old.jks\"\npassword = \"x\"\n";
    let new = "[keystore.primary]\nfile_name = \"new.p12\"\npassword = \"store-secret\"\nalias = \"acme\"\n\
               key_password = \"store-secret\"\n";
    let host = Host::new(old);
    let said = host.said("keystore").await;
    assert!(
        said[0].starts_with("fail keystore keystore.primary: repository/resources/security/old.jks is not")
    );

    let stage = |path: &str, content: &[u8]| {
        let staged = host.dir.path().join(path.replace('/', "_"));
        fs::write(&staged, content).unwrap();
        (HomePath::parse(path).unwrap(), staged)
    };
    let mut subject = Subject::on_disk(host.settings.clone());
    subject.staged = BTreeMap::from([
        stage("repository/conf/deployment.toml", new.as_bytes()),
        stage("repository/resources/security/new.p12", include_bytes!("keystore/fixtures/modern.p12")),
    ]);
    let checks = run(&subject).await;
    let said: Vec<String> =
        checks.iter().filter(|it| it.name == "keystore").map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["keystore keystore.primary: repository/resources/security/new.p12 opens and holds the key \"acme\""]
    );
}

#[tokio::test]
async fn the_doctor_prints_every_check_with_its_remedy_and_no_secret() {
    let host = Host::new(
        "[keystore.primary]\nfile_name = \"gone.jks\"\npassword = \"hushhush\"\n[database.x]\n\
         url = \"jdbc:mysql://root:hushhush@[::1]:1/x\"\n",
    );
    let mut table = Vec::new();
    let checks = run(&Subject::on_disk(host.settings.clone())).await;
    let fit = crate::doctor::print(&checks, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(!fit, "{table}");
    assert!(table.contains("fail     keystore keystore.primary"), "{table}");
    assert!(table.contains("-> "), "{table}");
    assert!(table.lines().last().unwrap().ends_with("not checked"), "{table}");
    assert!(!table.contains("hushhush"), "{table}");
}

#[tokio::test]
async fn a_configuration_that_does_not_parse_is_said() {
    let said = Host::new("[server\n").said("config").await;
    assert!(said[0].starts_with("fail config: the server would not start"), "{said:?}");
    let said = Host::new("[oauth.token]\nx = 1\n[oauth]\ny = 2\n").said("config").await;
    assert!(said[0].contains("line 3, column 1: [oauth] is opened after a table inside it"), "{said:?}");
    let host = Host::new("");
    fs::remove_file(host.dir.path().join("repository/conf/deployment.toml")).unwrap();
    let said = host.said("config").await;
    assert!(said[0].starts_with("skipped config"), "{said:?}");
}

/// With every file of the home that is read replaced by a pipe that nobody writes to.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pipe_in_place_of_a_file_is_said_and_not_waited_for() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let host = Host::new("[keystore.primary]\nfile_name = \"wso2carbon.jks\"\n");
    let pipe = |path: &str| {
        let path = host.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(fs::remove_file(&path));
        mkfifoat(CWD, path, Mode::RUSR).unwrap();
    };
    pipe("repository/resources/security/wso2carbon.jks");
    pipe("bin/version.txt");
    pipe("repository/resources/conf/.metadata/metadata_config.properties");
    let limit = LOOK_TIME / 3;
    let said = tokio::time::timeout(limit, host.said("keystore")).await.expect("nothing waits for a pipe");
    assert!(said.iter().any(|line| line.contains("is not a regular file; it is a pipe")), "{said:?}");
    pipe("repository/conf/deployment.toml");
    let said = tokio::time::timeout(limit, host.said("config")).await.expect("nothing waits for a pipe");
    assert!(said.iter().any(|line| line.contains("is not a regular file; it is a pipe")), "{said:?}");
}
