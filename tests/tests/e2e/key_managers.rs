//! Key Managers: the agent of an API Manager has its Admin API agree with the fleet, and says what it did.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{FleetDir, LIMIT, Site, until},
    pack::Pack,
    standin::{Misbehaviour, admin},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::small::ensure_holds;

/// Of the administrator of the API Manager, and on the Identity Server.
const SECRETS: [&str; 2] = ["am-secret-4711", "is-secret-4711"];

/// One Identity Server and one API Manager that registers it.
struct Fleet {
    site: Site,
    fleet: FleetDir,
    am: Pack,
    plain: String,
}

impl Fleet {
    async fn open() -> Result<Self> {
        let mut site = Site::open("registered").await?;
        let mut plain =
            "name = \"registered\"\n\n[service]\nprobe_period = \"1s\"\nprobe_grace = \"30s\"\n".to_owned();
        let mut packs = Vec::new();
        for (index, (node, group, product)) in
            [("is-1", "key-manager", "wso2is-7.2"), ("am-1", "api-manager", "wso2am-4.5")]
                .into_iter()
                .enumerate()
        {
            let pack = site.pack(node, product.parse()?)?;
            let offset = site.offset(u16::try_from(index)?);
            plain.push_str(&format!(
                "[groups.{group}]\nproduct = {product:?}\nlayers = [\"{group}\"]\n[groups.{group}.rollout]\n\
                 soak = \"1s\"\nmin_healthy_time = \"1s\"\n[nodes.{node}]\ngroup = {group:?}\nhost = \"localhost\"\n\
                 home = {:?}\noffset = {offset}\n",
                pack.home
            ));
            site.agent(node, &pack).await?;
            packs.push(pack);
        }
        let fleet = FleetDir::create(&site.path("fleet"))?;
        let layer = "[server]\nhostname = \"localhost\"\n[super_admin]\nusername = \"admin\"\n";
        fleet.write("config/key-manager.toml", format!("{layer}password = \"is-own\"\n"))?;
        fleet.write(
            "config/api-manager.toml",
            format!("{layer}password = \"{{{{ secret('am.admin') }}}}\"\n"),
        )?;
        let am = packs.pop().context("two were made")?;
        let this = Self { site, fleet, am, plain };
        this.secrets(SECRETS).await?;
        Ok(this)
    }

    async fn secrets(&self, [am, is]: [&str; 2]) -> Result<()> {
        let file = self.site.path("secrets.toml");
        let text = format!(
            "\"am.admin\" = {am:?}\n\"am.typed\" = {am:?}\n\"is.admin\" = {is:?}\n\"bad\" = \"wrong-4711\"\n"
        );
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let words = ["secret".as_ref(), "set".as_ref(), "--from".as_ref(), file.as_os_str()];
        self.site.operator().done(words).await.map(drop)
    }

    /// Declares it, with some lines more.
    fn declare(&self, more: &str) -> Result<()> {
        let password = if more.contains("admin_password") {
            ""
        } else {
            "admin_password = \"{{ secret('am.typed') }}\"\n"
        };
        let table = format!(
            "\n[[groups.api-manager.key_managers]]\nname = \"IS7\"\ntype = \"WSO2-IS-7\"\ngroup = \"key-manager\"\n\
             username = \"admin\"\npassword = \"{{{{ secret('is.admin') }}}}\"\nadmin_user = \"admin\"\n\
             check_interval = \"1s\"\n{password}{more}"
        );
        self.fleet.write("fleet.toml", format!("{}{table}", self.plain))
    }

    async fn apply(&self) -> Result<String> {
        let words = ["apply".as_ref(), self.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
        self.site.operator().done(words).await
    }

    /// What a plan of the directory says, lines joined.
    async fn plan(&self) -> Result<String> {
        let ran = self.site.operator().run(["plan".as_ref(), self.fleet.arg()]).await?;
        let said = format!("{} {}", ran.out, ran.said);
        Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    async fn events(&self) -> Result<String> {
        self.site.operator().done(["events", "--last", "500"]).await
    }

    /// Waits for an event with these words.
    async fn told(&self, words: &str) -> Result<()> {
        let found =
            until(words, LIMIT, async || Ok(self.events().await?.contains(words).then_some(()))).await;
        found.with_context(|| self.am_log())
    }

    /// Waits for these words among what there is to see to.
    async fn concern(&self, words: &str) -> Result<String> {
        let operator = self.site.operator();
        until(words, LIMIT, async || {
            let shown = operator.done(["node", "show", "am-1"]).await?;
            // People's output is wrapped.
            let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(flat.contains(words).then_some(flat))
        })
        .await
        .with_context(|| self.am_log())
    }

    fn am_log(&self) -> String {
        self.site.agents.iter().map(convoy_tests::harness::Agent::log).collect()
    }

    fn store(&self) -> PathBuf {
        self.am.home.join(admin::FILE)
    }

    /// What the API Manager has.
    fn registered(&self) -> Result<Vec<Value>> {
        match fs::read(self.store()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Somebody works in the portal.
    fn edit(&self, edit: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let mut all = self.registered()?;
        edit(&mut all);
        let staged = self.site.path("edited.json");
        fs::write(&staged, serde_json::to_vec(&all)?)?;
        Ok(fs::rename(staged, self.store())?)
    }
}

#[tokio::test]
async fn a_key_manager_is_registered_kept_and_deleted() -> Result<()> {
    let fleet = Fleet::open().await?;
    let offset = fleet.site.offset(0);

    // 1. Registered once the API Manager is ready, with what WSO2 wants.
    fleet.declare("grant_types = [\"client_credentials\"]\nrole_creation = true\n")?;
    fleet.apply().await?;
    fleet.told("registered Key Manager IS7: WSO2-IS-7 at https://localhost").await?;
    fleet.concern("Key Managers IS7 registered last looked at").await?;
    let [one] = <[Value; 1]>::try_from(fleet.registered()?).expect("exactly one");
    let server = format!("https://localhost:{}", 9443 + offset);
    ensure!(one["userInfoEndpoint"] == format!("{server}/scim2/Me"), "{one:#}");
    ensure!(
        one["additionalProperties"]["is7_roles_endpoint"] == format!("{server}/scim2/v2/Roles"),
        "{one:#}"
    );
    ensure!(one["additionalProperties"]["Password"] == SECRETS[1], "{one:#}");
    ensure!(
        one["enableSelfValidationJWT"] == true && one["availableGrantTypes"] == json!(["client_credentials"]),
        "{one:#}"
    );

    // 2. Somebody changes it in the portal, and adds what nobody declared: the first is undone, the second stays.
    fleet.edit(|all| {
        all[0]["tokenEndpoint"] = json!("https://evil.example.org/oauth2/token");
        all[0]["claimMapping"] = json!([{"remoteClaim": "a", "localClaim": "b"}]);
    })?;
    fleet.told("somebody changed Key Manager IS7, and it is put back: tokenEndpoint is https://evil").await?;
    let [one] = <[Value; 1]>::try_from(fleet.registered()?).expect("exactly one");
    ensure!(one["tokenEndpoint"] == format!("{server}/oauth2/token"), "{one:#}");
    ensure!(one["claimMapping"][0]["remoteClaim"] == "a", "{one:#}");
    ensure!(one["additionalProperties"]["Password"] == SECRETS[1], "the mask was written back: {one:#}");

    // 3. Deleted in the portal: registered again. Only told, if that is what is declared.
    fleet.edit(Vec::clear)?;
    fleet.told("Key Manager IS7 was gone and is registered again").await?;
    fleet.declare("drift = \"report\"\n")?;
    ensure_holds(&fleet.apply().await?, &["key_managers.IS7"])?;
    fleet.told("wrote Key Manager IS7, where availableGrantTypes is client_credentials").await?;
    fleet.edit(|all| all[0]["enabled"] = json!(false))?;
    let shown = "key-manager-drift: somebody changed Key Manager IS7: enabled is false, not true";
    ensure_holds(&fleet.concern(shown).await?, &["Key Managers IS7 differs last looked at"])?;
    ensure!(fleet.registered()?[0]["enabled"] == false, "it was only to be told");
    // A plan asks the Admin API itself, although no file changes.
    let said = "am-1: somebody changed Key Manager IS7 in the portal: enabled is false, not true";
    ensure_holds(&fleet.plan().await?, &["CV574", said, "it is left so, since its `drift` is \"report\""])?;
    fleet.edit(|all| all[0]["enabled"] = json!(true))?;
    ensure!(!fleet.plan().await?.contains("CV574"), "it is as declared");
    fleet.edit(|all| all[0]["enabled"] = json!(false))?;

    // 4. In the fleet no more: said by the plan, deleted, told. What is not ours stays.
    fleet.edit(|all| {
        all.push(json!({"id": "km-77", "name": "theirs", "type": "Keycloak", "enabled": true}));
    })?;
    fleet.fleet.write("fleet.toml", &fleet.plain)?;
    ensure_holds(&fleet.apply().await?, &["(deleted at the Admin API)"])?;
    fleet.told("deleted Key Manager IS7: the fleet has it no more").await?;
    let [theirs] = <[Value; 1]>::try_from(fleet.registered()?).expect("exactly one");
    ensure!(theirs["name"] == "theirs", "{theirs:#}");

    // 5. Nobody sees a secret, and no server was restarted for any of it.
    let shown = fleet.site.operator().node("am-1").await?;
    ensure!(shown["report"]["starts_total"] == 1, "{shown:#}");
    let coordinator = fs::read_to_string(fleet.site.path("coordinator/coordinator.log"))?;
    for text in [fleet.am_log(), coordinator, fleet.events().await?, shown.to_string()] {
        for secret in SECRETS {
            ensure!(!text.contains(secret), "a secret is shown:\n{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said_with_its_remedy() -> Result<()> {
    let mut fleet = Fleet::open().await?;

    // 1. The portal is away: waited for, with the reason; the node is ready all the same.
    fleet.am.misbehave(&Misbehaviour { admin_api_away: true, ..Misbehaviour::default() })?;
    fleet.declare("")?;
    fleet.apply().await?;
    let said = "am-1: the Key Managers at its Admin API are not known now: the Admin API does not answer";
    ensure_holds(&fleet.plan().await?, &["CV574", said])?;
    fleet
        .concern("Key Manager IS7 is not registered as declared: the Admin API does not answer: status 404")
        .await?;
    let status = fleet.site.operator().done(["status"]).await?;
    ensure_holds(
        &status.split_whitespace().collect::<Vec<_>>().join(" "),
        &["key-manager: Key Manager IS7"],
    )?;

    // 2. An agent that dies meanwhile goes on; then the portal comes.
    let agent = fleet.site.agent_of("am-1");
    agent.kill().await?;
    agent.start()?;
    fleet.am.misbehave(&Misbehaviour::default())?;
    fleet.told("registered Key Manager IS7").await?;
    ensure!(fleet.registered()?.len() == 1, "{:?}", fleet.registered());

    // 3. A wrong password of the administrator: said, not tried on and on, and mended by the next apply.
    fleet.declare("admin_password = \"{{ secret('bad') }}\"\n")?;
    fleet.apply().await?;
    let shown = fleet.concern("does not let the administrator in").await?;
    ensure_holds(&shown, &["check admin_user (admin) and the secret of admin_password"])?;
    fleet.declare("display_name = \"Identity\"\n")?;
    fleet.apply().await?;
    fleet.told("wrote Key Manager IS7, where displayName is IS7, not Identity").await?;

    // 4. One of that name and another type is not touched, and a plan says so.
    let theirs = json!({"id": "km-9", "name": "IS7", "type": "Keycloak", "enabled": true});
    fleet.edit(|all| *all = vec![theirs.clone()])?;
    let said = "am-1: Key Manager IS7: there is one of that name with the type Keycloak";
    ensure_holds(&fleet.plan().await?, &["CV574", said, "rename the declared one"])?;
    fleet.concern("there is one of that name with the type Keycloak, which Convoy does not touch").await?;
    fleet.fleet.write("fleet.toml", &fleet.plain)?;
    fleet.apply().await?;
    fleet.told("Key Manager IS7 is in the fleet no more").await?;
    ensure!(fleet.registered()? == [theirs], "{:?}", fleet.registered());
    Ok(())
}

/// A client of the Identity Server by dynamic registration: its id and secret.
async fn dynamic_client(port: u16) -> Result<(String, String)> {
    let body = json!({ "client_name": "gate", "grant_types": ["client_credentials"] }).to_string();
    // admin:is-own
    let request = format!(
        "POST /api/identity/oauth2/dcr/v1.1/register HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Basic YWRtaW46aXMtb3du\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
    ensure!(head.starts_with("HTTP/1.1 201"), "{answer}");
    let client: Value = serde_json::from_str(body)?;
    let text = |key: &str| client[key].as_str().map(str::to_owned).context("a client");
    Ok((text("client_id")?, text("client_secret")?))
}

#[tokio::test]
async fn a_token_of_the_identity_server_opens_the_gateway_once_it_is_registered() -> Result<()> {
    let mut fleet = Fleet::open().await?;
    let directory = fleet.fleet.clone();
    let change = |word: &str| {
        let layer =
            format!("[server]\nhostname = \"{word}.example.org\"\n[super_admin]\nusername = \"admin\"\n");
        let layer = layer + "password = \"{{ secret('am.admin') }}\"\n";
        directory.write("config/api-manager.toml", layer)
    };
    fleet.fleet.write("fleet.toml", &fleet.plain)?;
    fleet.apply().await?;

    // 1. A client by dynamic registration, and a gate that gets a token with it and calls an API through the gateway.
    let offset = fleet.site.offset(0);
    let (id, secret) = dynamic_client(9763 + offset).await?;
    let file = fleet.site.path("gate.toml");
    fs::write(&file, format!("\"gate.client\" = {secret:?}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let words = ["secret".as_ref(), "set".as_ref(), "--from".as_ref(), file.as_os_str()];
    fleet.site.operator().done(words).await?;
    let gate = format!(
        "[[groups.api-manager.rollout.gates]]\nname = \"through\"\nkind = \"token\"\non = \"new\"\ntries = 8\n\
         interval = \"500ms\"\ntoken_url = \"https://localhost:{}/oauth2/token\"\nclient_id = {id:?}\n\
         client_secret = \"{{{{ secret('gate.client') }}}}\"\ncontains = \"hello\"\n\
         url = \"https://localhost:{{{{ node.port('gateway-https') }}}}/standin/key-manager\"\n",
        9443 + offset
    );

    // 2. Nobody has registered the Identity Server: its token opens nothing.
    fleet.fleet.write("fleet.toml", format!("{}{gate}", fleet.plain))?;
    change("second")?;
    let words = ["apply".as_ref(), fleet.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    let ran = fleet.site.operator().run(words).await?;
    ensure!(ran.code == 1, "{ran:?}");
    ensure_holds(&fleet.events().await?, &["gate through failed on am-1", "with a token: status 401"])?;

    // 3. Declared, it is registered as soon as the server is ready, and the same gate passes.
    change("third")?;
    fleet.plain.push_str(&gate);
    fleet.declare("")?;
    fleet.apply().await?;
    ensure_holds(&fleet.events().await?, &["registered Key Manager IS7", "gate through passed on am-1"])
}
