//! A real HAProxy, and a real NGINX, that an agent looks after, in front of two Identity Servers: the configuration is a
//! file of the fleet, and no client notices that it changes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{
    LIMIT,
    client::{AT_ONCE, Client},
    master::{Master, haproxy, haproxy_by_hand},
    until,
};

use crate::{
    balancer::{CLIENT, changed_under_load, loaded, served},
    small::{NODES, Small, common, ensure_holds, is_alive, pid},
};

/// Where clients connect, before the offset that is this test's alone.
const CLIENTS: u16 = 9743;

/// A fleet whose third node is a balancer.
pub struct Fronted {
    pub small: Small,
    _master: Master,
    clients: SocketAddr,
    /// The generated file.
    file: PathBuf,
    socket: PathBuf,
    /// Home of the balancer.
    pub home: PathBuf,
}

/// Before the fleet knows of it, the program runs with what somebody typed.
fn by_hand(kind: &str, clients: SocketAddr, socket: &Path) -> String {
    if kind == "nginx" {
        return format!("server {{\n  listen {clients};\n  return 503;\n}}\n");
    }
    haproxy_by_hand(clients, socket)
}

/// What includes the file of NGINX.
fn around(home: &Path, file: &Path) -> String {
    format!(
        "pid {0}/nginx.pid;\nerror_log {0}/error.log;\nworker_processes 1;\ndaemon off;\nevents {{}}\nhttp {{\n  \
         access_log off;\n  client_body_temp_path {0}/t;\n  proxy_temp_path {0}/t;\n  fastcgi_temp_path {0}/t;\n  \
         uwsgi_temp_path {0}/t;\n  scgi_temp_path {0}/t;\n  include {1};\n}}\n",
        home.display(),
        file.display()
    )
}

async fn started(kind: &str, home: &Path, (file, pid_file): (&Path, &Path)) -> Result<Option<Master>> {
    let mut command = if kind == "nginx" {
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(home.join("nginx.conf"));
        nginx
    } else {
        haproxy(file, pid_file)
    };
    let master = Master::start(&mut command, &home.join("log"), pid_file).await?;
    if master.is_none() {
        println!("NOT EXERCISED: a real {kind} is not installed");
    }
    Ok(master)
}

impl Fronted {
    /// A fleet whose third node is this balancer; `None` where that is not installed. Hooks of the servers' group take them
    /// out before a stop.
    pub async fn open(kind: &str, with_hooks: bool) -> Result<Option<Self>> {
        let mut small = Small::open().await?;
        let home = small.site.path("lb");
        fs::create_dir(&home)?;
        let file = home.join(if kind == "nginx" { "convoy.conf" } else { "haproxy.cfg" });
        let (socket, pid_file) = (home.join("admin.sock"), home.join(format!("{kind}.pid")));
        let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENTS + small.site.offset(6)));
        fs::write(&file, by_hand(kind, clients, &socket))?;
        fs::write(home.join("nginx.conf"), around(&home, &file))?;
        let Some(master) = started(kind, &home, (&file, &pid_file)).await? else { return Ok(None) };
        let java_home = small.packs[0].java_home.clone();
        let agent = small.site.agent_at("lb-1", &home, &java_home).await?;
        agent.kill().await?;
        let (own, socket_line) = if kind == "nginx" {
            (format!("main = {:?}, ", home.join("nginx.conf")), String::new())
        } else {
            (String::new(), format!("socket = {socket:?}\n"))
        };
        agent.add_setting(&format!(
            "balancer = {{ kind = {kind:?}, home = {home:?}, pid_file = {pid_file:?}, {own}socket = {socket:?} }}"
        ))?;
        agent.start()?;
        for node in NODES {
            let agent = small.site.agent_of(node);
            agent.kill().await?;
            agent.add_setting(&format!("[allow]\nsockets = [{socket:?}]"))?;
            agent.start()?;
        }
        let plain = small.fleet.read("fleet.toml")?;
        let front = format!(
            "\n[balancers.front]\nkind = {kind:?}\n{socket_line}address = \"127.0.0.1\"\n\
             [[balancers.front.services]]\nname = \"identity\"\ngroup = \"key-manager\"\nport = \"http\"\nlisten = {}\n\
             sticky = \"none\"\n[groups.edge]\nbalancer = \"front\"\n[nodes.lb-1]\ngroup = \"edge\"\nhost = \
             \"127.0.0.1\"\nhome = {home:?}\n",
            clients.port()
        );
        let backend = if kind == "nginx" { "upstream" } else { "backend" };
        let hook = |point: &str, more: &str| {
            format!(
                "\n[groups.key-manager.hooks.{point}]\nkind = {kind:?}\nsocket = {socket:?}\n{backend} = \
                 \"identity\"\n{more}"
            )
        };
        let hooks = hook("before_stop", "settle = \"20s\"\n") + &hook("after_ready", "");
        small.fleet.write("fleet.toml", plain + &front + if with_hooks { &hooks } else { "" })?;
        Ok(Some(Self { small, _master: master, clients, file, socket, home }))
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())
    }

    /// The first apply replaces what somebody typed, which is said twice.
    pub async fn first_apply(&self) -> Result<String> {
        let words = ["apply".as_ref(), self.small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
        let words = words.into_iter().chain(["--timeout", "5m", "--replace-unmanaged"].map(AsRef::as_ref));
        self.small.site.operator().done(words).await
    }

    pub async fn events(&self) -> Result<String> {
        self.small.site.operator().done(["events", "--last", "500"]).await
    }

    /// Waits until an event says so; returns all.
    pub async fn told(&self, words: &str) -> Result<String> {
        until(words, LIMIT, async || {
            let events = self.events().await?;
            Ok(events.contains(words).then_some(events))
        })
        .await
    }

    pub async fn served(&self) -> Result<()> {
        served(self.clients).await
    }
}

pub fn words_of(front: &Fronted) -> [&std::ffi::OsStr; 4] {
    ["apply".as_ref(), front.small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()]
}

/// One more service, at a port that is taken.
fn second_service(port: u16) -> String {
    format!(
        "sticky = \"none\"\n[[balancers.front.services]]\nname = \"second\"\ngroup = \"key-manager\"\nport = \
         \"http\"\nlisten = {port}\nsticky = \"none\"\n"
    )
}

#[tokio::test]
async fn a_balancer_is_planned_applied_watched_and_rolled_back_like_a_server() -> Result<()> {
    let Some(front) = Fronted::open("haproxy", true).await? else { return Ok(()) };
    let operator = front.small.site.operator();
    let plan = operator.run(["plan".as_ref(), front.small.fleet.arg(), "--diff".as_ref()]).await?;
    ensure_holds(&plan.out, &["haproxy.cfg", "lb-1"])?;
    let master = fs::read_to_string(front.home.join("haproxy.pid"))?;
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    front.served().await?;
    ensure_holds(&front.text()?, &["Balancer front of fleet small", "server is-1 127.0.0.1:"])?;
    front.told("reloaded with the files of generation 1").await?;

    // Drift: an edit is undone, and what somebody may have loaded of it goes with it.
    let declared = front.text()?;
    fs::write(&front.file, declared.replace("balance leastconn", "balance roundrobin"))?;
    let (file, wanted) = (front.file.clone(), declared.clone());
    until("the edit to be undone", LIMIT, async || {
        Ok((fs::read_to_string(&file).unwrap_or_default() == wanted).then_some(()))
    })
    .await?;
    front.told("haproxy.cfg was edited and is restored").await?;

    // What HAProxy refuses never becomes a file, and is told in its own words.
    let good = front.small.fleet.read("fleet.toml")?;
    let bad =
        good.replace("address = \"127.0.0.1\"", "address = \"127.0.0.1\"\nserver_ca = \"/nowhere/ca.pem\"");
    front.small.fleet.write("fleet.toml", bad)?;
    let ran = operator.run(words_of(&front)).await?;
    ensure!(ran.code != 0, "a configuration that HAProxy refuses is applied: {}", ran.out);
    let told = front
        .told("/nowhere/ca.pem")
        .await
        .with_context(|| format!("the apply said: {} {}", ran.out, ran.said))?;
    ensure_holds(&told, &["refuses the configuration", "haproxy.cfg:"])?;
    ensure!(front.text()? == declared, "{}", front.text()?);
    front.served().await?;

    // So does a port that somebody else has, which the check cannot know: the files before come back.
    let taken = CLIENTS + front.small.site.offset(5);
    let somebody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, taken))?;
    let busy = good.replace("sticky = \"none\"\n", &second_service(taken));
    front.small.fleet.write("fleet.toml", busy)?;
    let ran = operator.run(words_of(&front)).await?;
    ensure!(ran.code != 0, "a reload that cannot listen is ready: {}", ran.out);
    front.told("the reload failed").await?;
    let (file, wanted) = (front.file.clone(), declared.clone());
    until("the files before", LIMIT, async || {
        Ok((fs::read_to_string(&file).unwrap_or_default() == wanted).then_some(()))
    })
    .await?;
    front.served().await?;
    drop(somebody);

    front.small.fleet.write("fleet.toml", good)?;
    front.small.apply().await?;
    front.small.ready("lb-1").await?;
    ensure!(fs::read_to_string(front.home.join("haproxy.pid"))? == master, "another master");
    ensure!(front.socket.exists(), "no socket");
    Ok(())
}

/// Changes what both servers read while clients ask, and the balancer with them, so that it is reloaded under load as
/// well; answered and failed requests.
pub async fn all_changed_under_load(front: &Fronted, client: &Client) -> Result<(u64, u64)> {
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    changed_under_load(&front.small, (client, front.clients), async || {
        front.small.fleet.write("config/common.toml", common("second"))?;
        let fleet = front.small.fleet.read("fleet.toml")?;
        let longer = fleet.replace("sticky = \"none\"", "sticky = \"none\"\ntimeout = \"4m\"");
        front.small.fleet.write("fleet.toml", longer)?;
        front.small.apply().await?;
        front.told("reloaded with the files of generation 2").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn behind_a_balancer_of_the_fleet_a_rollout_loses_no_request() -> Result<()> {
    let Some(front) = Fronted::open("haproxy", true).await? else { return Ok(()) };
    let (answered, failed) = all_changed_under_load(&front, &CLIENT.resending()).await?;
    ensure!(failed == 0, "{failed} requests failed, {answered} were answered");
    let events = front.events().await?;
    ensure!(!events.contains("hook-failed"), "{events}");
    Ok(())
}

#[tokio::test]
async fn behind_the_same_balancer_without_hooks_it_does() -> Result<()> {
    let Some(front) = Fronted::open("haproxy", false).await? else { return Ok(()) };
    let (answered, failed) = all_changed_under_load(&front, &CLIENT).await?;
    ensure!(0 < failed, "{answered} requests were answered and none failed: the other test proves nothing");
    Ok(())
}

#[tokio::test]
async fn nginx_is_checked_reloaded_watched_and_rolled_back_as_well() -> Result<()> {
    let Some(front) = Fronted::open("nginx", false).await? else { return Ok(()) };
    let operator = front.small.site.operator();
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    front.served().await?;
    let declared = front.text()?;
    ensure_holds(&declared, &["Balancer front of fleet small", "upstream identity {"])?;
    fs::write(&front.file, declared.replace("least_conn;", "ip_hash;"))?;
    let (file, wanted) = (front.file.clone(), declared.clone());
    until("the edit to be undone", LIMIT, async || {
        Ok((fs::read_to_string(&file).unwrap_or_default() == wanted).then_some(()))
    })
    .await?;
    front.told("convoy.conf was edited and is restored").await?;

    let good = front.small.fleet.read("fleet.toml")?;
    let secure = "certificate = \"/nowhere/front.pem\"\ncertificate_key = \"/nowhere/front.key\"\naddress";
    let bad = good.replace("address", secure).replace("port = \"http\"", "port = \"https\"");
    front.small.fleet.write("fleet.toml", bad)?;
    let ran = operator.run(words_of(&front)).await?;
    ensure!(ran.code != 0, "a configuration that NGINX refuses is applied: {}", ran.out);
    let told = front
        .told("/nowhere/front.pem")
        .await
        .with_context(|| format!("the apply said: {} {}", ran.out, ran.said))?;
    ensure_holds(&told, &["refuses the configuration"])?;
    ensure!(front.text()? == declared, "{}", front.text()?);
    front.served().await
}

/// Without hooks NGINX finds out by failures, and leaves a server out for 10 s then. What can be sent twice is
/// sent to the other server, as long as that one does not restart within those 10 s. Its old workers close connections
/// that clients keep: a request that is sent at that moment fails, at most one of each client.
#[tokio::test]
async fn behind_nginx_a_rollout_loses_at_most_what_is_sent_into_the_reload() -> Result<()> {
    let Some(front) = Fronted::open("nginx", false).await? else { return Ok(()) };
    let fleet = front.small.fleet.read("fleet.toml")?;
    front.small.fleet.write("fleet.toml", fleet.replace("soak = \"1s\"", "soak = \"12s\""))?;
    let (answered, failed) = all_changed_under_load(&front, &CLIENT).await?;
    let most = u64::try_from(AT_ONCE)?;
    ensure!(failed <= most, "{failed} requests failed, {answered} were answered");
    Ok(())
}

#[tokio::test]
async fn servers_come_move_and_go_behind_it_and_no_request_is_lost() -> Result<()> {
    let Some(mut front) = Fronted::open("haproxy", true).await? else { return Ok(()) };
    front.first_apply().await?;
    front.small.ready("lb-1").await?;
    front.served().await?;
    let load = loaded(&CLIENT.resending(), front.clients).await?;

    // It comes: in service once it is ready.
    let pack = front.small.site.pack("is-3", "wso2is-7.2".parse()?)?;
    let agent = front.small.site.agent("is-3", &pack).await?;
    agent.kill().await?;
    agent.add_setting(&format!("[allow]\nsockets = [{:?}]", front.socket))?;
    agent.start()?;
    let two = front.small.fleet.read("fleet.toml")?;
    let node = format!(
        "\n[nodes.is-3]\ngroup = \"key-manager\"\nhost = \"127.0.0.1\"\nhome = {:?}\noffset = {}\n",
        pack.home,
        front.small.site.offset(2)
    );
    let three = format!("{two}{node}");
    front.small.fleet.write("fleet.toml", &three)?;
    front.small.apply().await?;
    ensure_holds(&front.text()?, &["server is-3 127.0.0.1:"])?;
    let events = front.told("reloaded with the files of generation 2").await?;
    ensure_holds(&events, &["HAProxy has no server identity/is-3, so there was nothing to put back"])?;

    // It moves to another port: HAProxy is told by its hook, and its file says so afterwards.
    let at = |index: u16| format!("offset = {}\n", front.small.site.offset(index));
    ensure!(three.contains(&at(0)), "{three}");
    front.small.fleet.write("fleet.toml", three.replace(&at(0), &at(3)))?;
    front.small.apply().await?;
    let port = 9763 + front.small.site.offset(3);
    ensure_holds(&front.text()?, &[&format!("server is-1 127.0.0.1:{port}")])?;
    front.told("reloaded with the files of generation 3").await?;

    // It goes: out of service, and left running.
    let process = pid(&front.small.ready("is-3").await?)?;
    front.small.fleet.write("fleet.toml", two.replace(&at(0), &at(3)))?;
    front.small.apply().await?;
    ensure!(!front.text()?.contains("is-3"), "{}", front.text()?);
    ensure!(is_alive(process), "is-3 was stopped although it was only taken out of the fleet");
    let (answered, failed) = load.end().await;
    println!("{answered} requests answered, {failed} failed");
    ensure!(failed == 0, "{failed} requests failed, {answered} were answered");
    Ok(())
}
