//! The guide from its first step to the last: two Identity Servers as the Key Manager of an API Manager, behind a real
//! HAProxy that an agent looks after, with their databases on a real MariaDB; up to a token that opens an API, and a
//! change through both Identity Servers while clients ask.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use convoy_tests::{
    harness::{
        Agent, FleetDir, Operator, Programs, Site,
        client::{Ask, Client, Load},
        database::{DatabaseServer, Setup},
        master::{Master, haproxy, haproxy_by_hand},
        until,
    },
    pack::Pack,
};
use fleet::preflight::databases::Vendor;
use serde_json::{Value, json};

use crate::{
    Stay,
    scenes::{self, PATIENCE, shown},
    talk::Talk,
};

/// What clients ask an Identity Server for while it restarts.
const PAGE: &str = "/oauth2/token/.well-known/openid-configuration";
/// Most requests of one load.
const REQUESTS_MAX: u64 = 200_000;
/// The name that the balancer's certificate is for.
const NAME: &str = "localhost";
/// Where the balancer listens for the Key Manager and for the gateway, before the offset that is the demo's alone.
const KEY_MANAGER: u16 = 9743;
const GATEWAY: u16 = 9843;
/// An API behind the gateway of the stand-in; only tokens of a registered Key Manager open it.
const API: &str = "/standin/key-manager";
/// Databases of the example with their users, whose passwords are their names, and a table that the product's script
/// makes.
const DATABASES: [(&str, &str, &[&str]); 5] = [
    ("identity_db", "identity", &["IDN_BASE_TABLE", "IDN_OAUTH2_ACCESS_TOKEN"]),
    ("is_shared_db", "is_shared", &["REG_RESOURCE", "UM_USER"]),
    ("agent_identity_db", "agent_identity", &[]),
    ("apim_db", "apim", &["AM_API", "AM_KEY_MANAGER"]),
    ("shared_db", "shared", &["REG_RESOURCE", "UM_USER"]),
];
/// Connections that the database allows; the pools of the example add up to less.
const CONNECTIONS: u32 = 400;

/// All scenes of the guide.
pub async fn play(directory: &Path, stay: Stay) -> Result<()> {
    let talk = Talk::new();
    let own = std::env::current_exe()?;
    let programs = Programs::in_directory(own.parent().context("a program lies in a directory")?)?;

    talk.step("The databases of the guide: a MariaDB");
    let database = database(&talk).await?;

    talk.step("A coordinator, and the homes of two Identity Servers and an API Manager");
    let mut site = Site::open_at("is-as-key-manager", directory, programs).await?;
    let operator = site.operator();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/is-as-key-manager");
    let fleet = FleetDir::copy_of(&example, &site.path("fleet"))?;
    let packs = homes(&talk, &site)?;

    talk.step("A load balancer: HAProxy, started as its package starts it, with what somebody typed");
    let balancer = Balancer::start(&site).await?;
    talk.say(&format!(
        "{}, clients connect at https://{NAME}:{} and https://{NAME}:{}",
        balancer.file.display(),
        balancer.key_manager,
        balancer.gateway
    ));

    talk.step("Enrol four agents, each with a one-time token");
    agents(&mut site, &packs, &balancer).await?;

    talk.step("Describe it: the example, with this machine's homes, ports and balancer");
    describe(&site, &fleet, (&packs, &balancer, &database))?;
    let path = fleet.path().display().to_string();
    secrets(&site, &operator).await?;

    talk.step(
        "Apply it: the Identity Servers, then the balancer, then the API Manager that finds them there",
    );
    shown(&operator, ["apply", &path, "--yes", "--wait", "--replace-unmanaged", "--reason", "the guide"])
        .await?;
    shown(&operator, ["status"]).await?;

    talk.step("What each host says of its databases");
    for node in ["is-1", "is-2", "am-1"] {
        databases(&talk, site.agent_of(node)).await?;
    }

    talk.step("The API Manager knows its Key Manager");
    until("the Key Manager to be registered", PATIENCE, async || {
        let events = operator.done(["events", "--last", "200"]).await?;
        Ok(events.contains("registered Key Manager").then_some(()))
    })
    .await?;
    shown(&operator, ["events", "--kind", "key-manager", "--last", "3"]).await?;

    let client = Client::trusting(NAME, &balancer.certificate)?;
    token(&talk, &client, &balancer).await?;
    under_load(&talk, &operator, &fleet, (&client, &balancer)).await?;
    portal(&talk, &operator, &packs[2]).await?;

    if stay == Stay::UntilInterrupted {
        scenes::hints(&talk, &site, &fleet);
        std::future::pending::<()>().await;
    }
    drop((balancer, database));
    Ok(())
}

/// A MariaDB with the databases of the example, and what the products' scripts make in them as far as Convoy looks.
async fn database(talk: &Talk) -> Result<DatabaseServer> {
    let mut statements = String::new();
    for (database, user, tables) in DATABASES {
        writeln!(statements, "CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET latin1;")?;
        writeln!(statements, "CREATE USER IF NOT EXISTS '{user}'@'127.0.0.1' IDENTIFIED BY '{user}';")?;
        writeln!(statements, "GRANT ALL ON {database}.* TO '{user}'@'127.0.0.1';")?;
        for table in tables {
            writeln!(statements, "CREATE TABLE IF NOT EXISTS {database}.{table} (ID INT);")?;
        }
    }
    let setup = Setup { vendor: Vendor::MySql, statements: &statements, connections_max: CONNECTIONS };
    let server = DatabaseServer::start(&setup).await?;
    let server = server.context("mariadbd is not installed; install mariadb-server, or run this as root")?;
    talk.say(&format!(
        "mariadbd on 127.0.0.1:{}, {} databases, each with a user",
        server.port,
        DATABASES.len()
    ));
    Ok(server)
}

fn homes(talk: &Talk, site: &Site) -> Result<[Pack; 3]> {
    let make = |(node, product): (&str, &str)| -> Result<Pack> {
        let pack = site.pack(node, product.parse()?)?;
        pack.add_driver()?;
        talk.say(&format!("{node}  {}", pack.home.display()));
        Ok(pack)
    };
    Ok([make(("is-1", "wso2is-7.2"))?, make(("is-2", "wso2is-7.2"))?, make(("am-1", "wso2am-4.5"))?])
}

/// HAProxy with a master process, as systemd's unit of Debian runs it.
struct Balancer {
    _master: Master,
    home: PathBuf,
    file: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    /// Certificate and key, as HAProxy reads them.
    pem: PathBuf,
    certificate: String,
    key_manager: u16,
    gateway: u16,
}

impl Balancer {
    async fn start(site: &Site) -> Result<Self> {
        let home = site.path("lb");
        fs::create_dir(&home)?;
        let at = |name: &str| home.join(name);
        let (file, socket, pid_file, pem) =
            (at("haproxy.cfg"), at("admin.sock"), at("haproxy.pid"), at("front.pem"));
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        fs::write(&pem, made.cert.pem() + &made.signing_key.serialize_pem())?;
        fs::set_permissions(&pem, fs::Permissions::from_mode(0o600))?;
        let (key_manager, gateway) = (KEY_MANAGER + site.offset(6), GATEWAY + site.offset(6));
        let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, key_manager));
        fs::write(&file, haproxy_by_hand(clients, &socket))?;
        let master = Master::start(&mut haproxy(&file, &pid_file), &at("haproxy.log"), &pid_file).await?;
        let master = master.context("HAProxy is not installed; install haproxy, or run this as root")?;
        let certificate = made.cert.pem();
        Ok(Self { _master: master, home, file, socket, pid_file, pem, certificate, key_manager, gateway })
    }
}

/// `convoy-agent doctor --databases`, as far as it is about them.
async fn databases(talk: &Talk, agent: &Agent) -> Result<()> {
    let (_, said) = agent.doctor_with(&["--databases"]).await?;
    // `pass  database  database.apim_db  ...`
    let about = |line: &&str| line.split_whitespace().nth(1) == Some("database");
    let lines: Vec<&str> = said.lines().filter(about).collect();
    ensure!(!lines.is_empty(), "the agent of {} says nothing of its databases:\n{said}", agent.node);
    talk.say(&format!("{}:\n{}", agent.node, lines.join("\n")));
    Ok(())
}

async fn agents(site: &mut Site, packs: &[Pack; 3], balancer: &Balancer) -> Result<()> {
    for (node, pack) in ["is-1", "is-2", "am-1"].into_iter().zip(packs) {
        let agent = site.agent_at(node, &pack.home, &pack.java_home).await?;
        agent.kill().await?;
        agent.check_endpoints()?;
        agent.add_setting(&format!("[allow]\nsockets = [{:?}]", balancer.socket))?;
        agent.start()?;
    }
    let agent = site.agent_at("lb-1", &balancer.home, &packs[0].java_home).await?;
    agent.kill().await?;
    agent.add_setting(&format!(
        "balancer = {{ kind = \"haproxy\", home = {:?}, pid_file = {:?}, socket = {:?} }}",
        balancer.home, balancer.pid_file, balancer.socket
    ))?;
    agent.start()
}

/// What the example leaves to whoever uses it.
fn describe(
    site: &Site,
    fleet: &FleetDir,
    (packs, balancer, database): (&[Pack; 3], &Balancer, &DatabaseServer),
) -> Result<()> {
    for layer in ["api-manager-databases", "key-manager-databases"] {
        let file = format!("config/{layer}.toml");
        fleet.write(&file, fleet.read(&file)?.replace("3306", &database.port.to_string()))?;
    }
    let port = balancer.key_manager.to_string();
    let file = "config/api-manager.toml";
    let text = fleet.read(file)?.replace(":443/", &format!(":{port}/"));
    fleet.write(
        file,
        text.replace("key_manager_host }}/oauth2", &format!("key_manager_host }}}}:{port}/oauth2")),
    )?;
    let file = "config/key-manager.toml";
    fleet.write(file, fleet.read(file)?.replace("proxyPort = 443", &format!("proxyPort = {port}")))?;

    let plain = fleet.read("fleet.toml")?.replace("port = 3306\n", &format!("port = {}\n", database.port));
    let plain = plain.replace("host = \"db.example.org\"", "host = \"127.0.0.1\"");
    // The API Manager finds its Key Manager behind the balancer.
    let order = ("after = [\"key-manager\"]", "after = [\"edge\"]");
    ensure!(plain.contains(order.0), "the example's fleet.toml does not say {}", order.0);
    fleet.write("fleet.toml", plain.replace(order.0, order.1) + &front(balancer))?;
    let mut overrides = format!(
        "# Written by the demo: what differs on this machine.\n[values]\nkey_manager_host = {NAME:?}\napi_host = \
         {NAME:?}\ndb_host = \"127.0.0.1\"\n\n[service]\ncheck_databases = true\n"
    );
    for ((index, node), pack) in (1_u16..).zip(["is-1", "is-2", "am-1"]).zip(packs) {
        let offset = site.offset(index);
        write!(overrides, "\n[nodes.{node}]\nhome = {:?}\noffset = {offset}\n", pack.home)?;
        if node != "am-1" {
            writeln!(overrides, "ports = {{ hazelcast = {} }}", 4000 + offset)?;
        }
    }
    fleet.write("overrides.toml", overrides)
}

/// The load balancer, its hooks, and the registration at the API Manager.
fn front(balancer: &Balancer) -> String {
    let Balancer { home, socket, pem, key_manager, gateway, .. } = balancer;
    let hooks = |group: &str, backend: &str| {
        let hook = |point: &str, more: &str| {
            format!(
                "\n[groups.{group}.hooks.{point}]\nkind = \"haproxy\"\nsocket = {socket:?}\nbackend = \
                 {backend:?}\n{more}"
            )
        };
        hook("before_stop", "settle = \"20s\"\n") + &hook("after_ready", "")
    };
    format!(
        "\n[balancers.front]\nkind = \"haproxy\"\naddress = \"127.0.0.1\"\ncertificate = {pem:?}\nsocket = {socket:?}\n\
         [[balancers.front.services]]\nname = \"identity\"\ngroup = \"key-manager\"\nlisten = {key_manager}\nhosts = \
         [{NAME:?}]\n[[balancers.front.services]]\nname = \"gateway\"\ngroup = \"api-manager\"\nport = \
         \"gateway-https\"\nlisten = {gateway}\nhosts = [{NAME:?}]\n\n[groups.edge]\nbalancer = \"front\"\n\
         after = [\"key-manager\"]\n\n[nodes.lb-1]\ngroup = \"edge\"\nhost = \"127.0.0.1\"\nhome = {home:?}\n\n\
         [[groups.api-manager.key_managers]]\nname = \"WSO2-IS-7\"\ntype = \"WSO2-IS-7\"\ngroup = \"key-manager\"\n\
         host_name = \"{{{{ values.key_manager_host }}}}\"\nport = {key_manager}\nusername = \"admin\"\npassword = \
         \"{{{{ secret('key-manager.admin') }}}}\"\nadmin_user = \"admin\"\nadmin_password = \
         \"{{{{ secret('api-manager.admin') }}}}\"\ncheck_interval = \"2s\"\n{}{}",
        hooks("key-manager", "identity"),
        hooks("api-manager", "gateway"),
    )
}

/// The two passwords that the registration needs; those of the example.
async fn secrets(site: &Site, operator: &Operator) -> Result<()> {
    let file = site.path("secrets.toml");
    fs::write(&file, "\"key-manager.admin\" = \"admin\"\n\"api-manager.admin\" = \"admin\"\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    shown(operator, ["secret", "set", "--from", &file.display().to_string()]).await
}

/// A client by dynamic registration, a token, and a call through the gateway, all through the balancer.
async fn token(talk: &Talk, client: &Client, balancer: &Balancer) -> Result<()> {
    talk.step("A token of the Identity Servers opens an API, all through the balancer");
    let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let body = json!({ "client_name": "demo", "grant_types": ["client_credentials"] }).to_string();
    let admin = basic("admin:admin");
    let path = "/api/identity/oauth2/dcr/v1.1/register";
    let registration =
        Ask { method: "POST", path, authorization: Some(&admin), body: ("application/json", &body) };
    let (status, answer) = client.ask(balancer.key_manager, &registration).await?;
    ensure!(status == 201, "POST {path} answered {status}: {answer}");
    let made: Value = serde_json::from_str(&answer)?;
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned).context(key.to_owned());
    let (id, secret) = (text(&made, "client_id")?, text(&made, "client_secret")?);
    talk.say(&format!("POST https://{NAME}:{}{path}: client {id}", balancer.key_manager));

    let pair = basic(&format!("{id}:{secret}"));
    let grant = Ask {
        method: "POST",
        path: "/oauth2/token",
        authorization: Some(&pair),
        body: ("application/x-www-form-urlencoded", "grant_type=client_credentials"),
    };
    let (status, answer) = client.ask(balancer.key_manager, &grant).await?;
    ensure!(status == 200, "POST /oauth2/token answered {status}: {answer}");
    let granted: Value = serde_json::from_str(&answer)?;
    let bearer = format!("Bearer {}", text(&granted, "access_token")?);
    talk.say(&format!("POST https://{NAME}:{}/oauth2/token: a token", balancer.key_manager));

    let (without, _) = client.ask(balancer.gateway, &Ask::get(API)).await?;
    let call = Ask { authorization: Some(&bearer), ..Ask::get(API) };
    let (with, answer) = client.ask(balancer.gateway, &call).await?;
    let url = format!("https://{NAME}:{}{API}", balancer.gateway);
    talk.say(&format!(
        "GET {url} without a token: {without}\nGET {url} with the token: {with} {}",
        answer.trim()
    ));
    ensure!(without == 401 && with == 200, "the gateway answered {without} without and {with} with a token");
    Ok(())
}

/// A change that both Identity Servers restart for, while clients ask without a pause.
async fn under_load(
    talk: &Talk,
    operator: &Operator,
    fleet: &FleetDir,
    (client, balancer): (&Client, &Balancer),
) -> Result<()> {
    talk.step("Change a setting of both Identity Servers while clients ask without a pause");
    let layer = "config/key-manager.toml";
    let changed = fleet.read(layer)? + "\n[oauth.token_validation]\nuser_access_token_validity = \"1800\"\n";
    fleet.write(layer, changed)?;
    let before = pids(operator).await?;
    let load = Load::start(client, (balancer.key_manager, PAGE), REQUESTS_MAX, |error| {
        println!("   a request failed: {error:#}");
    });
    let path = fleet.path().display().to_string();
    let applied = shown(operator, ["apply", &path, "--yes", "--wait", "--reason", "shorter tokens"]).await;
    let (answered, failed) = load.end().await;
    applied?;
    for (node, (before, after)) in ["is-1", "is-2"].iter().zip(before.iter().zip(pids(operator).await?)) {
        ensure!(*before != after, "{node} was not restarted");
    }
    talk.say(&format!("both restarted; of {} requests {failed} failed", answered + failed));
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

async fn pids(operator: &Operator) -> Result<[Option<u64>; 2]> {
    let of = async |node| -> Result<Option<u64>> { Ok(scenes::pid(&operator.node(node).await?)) };
    Ok([of("is-1").await?, of("is-2").await?])
}

/// Somebody changes the registration in the Admin portal.
async fn portal(talk: &Talk, operator: &Operator, manager: &Pack) -> Result<()> {
    talk.step("Somebody disables the Key Manager in the Admin portal");
    let store = manager.home.join(convoy_tests::standin::admin::FILE);
    let mut all: Value = serde_json::from_slice(&fs::read(&store)?)?;
    all[0]["enabled"] = json!(false);
    let staged = manager.home.join("edited.json");
    fs::write(&staged, serde_json::to_vec(&all)?)?;
    fs::rename(staged, &store)?;
    let started = tokio::time::Instant::now();
    until("the Key Manager to be enabled again", PATIENCE, async || {
        let all: Value = serde_json::from_slice(&fs::read(&store)?)?;
        Ok((all[0]["enabled"] == true).then_some(()))
    })
    .await?;
    talk.say(&format!("it was enabled again after {}", crate::talk::span(started.elapsed())));
    until("the coordinator to hear of it", Duration::from_secs(60), async || {
        let events = operator.done(["events", "--kind", "key-manager-drift", "--last", "3"]).await?;
        Ok(events.contains("put back").then_some(()))
    })
    .await?;
    shown(operator, ["events", "--kind", "key-manager-drift", "--last", "1"]).await
}
