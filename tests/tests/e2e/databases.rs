//! The pools of a fleet against what its database server allows, as one of its nodes is told.

use anyhow::{Result, ensure};
use convoy_tests::harness::{
    FleetDir, Site,
    database::{DatabaseServer, Setup},
};
use fleet::preflight::databases::Vendor;

const PASSWORD: &str = "S3CRET-of-the-database";

#[tokio::test]
async fn a_plan_knows_how_many_connections_the_database_allows() -> Result<()> {
    let statements = format!(
        "CREATE DATABASE identity;\nCREATE TABLE identity.IDN_BASE_TABLE (id INT);\n\
         CREATE TABLE identity.IDN_OAUTH2_ACCESS_TOKEN (id INT);\nCREATE USER wso2@'%' IDENTIFIED BY '{PASSWORD}' \
         WITH MAX_USER_CONNECTIONS 7;\nGRANT ALL ON identity.* TO wso2@'%';\n"
    );
    let setup = Setup { vendor: Vendor::MySql, statements: &statements, connections_max: 40 };
    let Some(database) = DatabaseServer::start(&setup).await? else {
        println!("NOT EXERCISED: {:?} is not installed here", setup.vendor);
        return Ok(());
    };
    let mut site = Site::open("databases").await?;
    let fleet = FleetDir::create(&site.path("fleet"))?;
    let mut text = "name = \"databases\"\n\n[service]\nprobe_period = \"1s\"\nprobe_grace = \"30s\"\n\
                    check_databases = true\n[groups.is]\nproduct = \"wso2is-7.2\"\nlayers = [\"is\"]\n[groups.is.rollout]\n\
                    soak = \"1s\"\nmin_healthy_time = \"1s\"\n"
        .to_owned();
    for index in 1..=2 {
        let node = format!("is-{index}");
        let pack = site.pack(&node, "wso2is-7.2".parse()?)?;
        let offset = site.offset(index - 1);
        text.push_str(&format!(
            "[nodes.{node}]\ngroup = \"is\"\nhost = \"localhost\"\nhome = {:?}\noffset = {offset}\n",
            pack.home
        ));
        let agent = site.agent(&node, &pack).await?;
        agent.kill().await?;
        agent.check_endpoints()?;
        agent.start()?;
    }
    let layer = |pool: u32| {
        format!(
            "[server]\nhostname = \"localhost\"\n[database.identity_db]\n\
             url = \"jdbc:mariadb://localhost:{}/identity\"\nusername = \"wso2\"\npassword = \"{PASSWORD}\"\n\
             [database.identity_db.pool_options]\nmaxActive = {pool}\n",
            database.port
        )
    };
    fleet.write("fleet.toml", &text)?;
    fleet.write("config/is.toml", layer(20))?;
    let operator = site.operator();
    operator.done(["apply".as_ref(), fleet.arg(), "--yes".as_ref(), "--wait".as_ref()]).await?;
    let planned = async || -> Result<String> {
        let ran = operator.run(["plan".as_ref(), fleet.arg()]).await?;
        let said = format!("{} {}", ran.out, ran.said);
        ensure!(!said.contains("S3CRET"), "{said}");
        Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
    };

    // The limit of the server counts, not the one of the user.
    let fits = planned().await?;
    ensure!(!fits.contains("CV561"), "{fits}");
    fleet.write("config/is.toml", layer(21))?;
    let full = planned().await?;
    let place = format!("may open 42 connections to localhost:{}", database.port);
    let told = format!("{place}, more than the 40 that it allows, as is-1 was told");
    ensure!(full.contains("CV561") && full.contains(&told), "{full}");

    // Whoever declares more than there is, is told so; less is what the fleet may have.
    let declare = |most: u32| {
        let table = format!("[databases.main]\nhost = \"localhost\"\nport = {}\n", database.port);
        fleet.write("fleet.toml", format!("{text}{table}max_connections = {most}\n"))
    };
    declare(500)?;
    let more = planned().await?;
    ensure!(more.contains(&told), "{more}");
    declare(39)?;
    let less = planned().await?;
    ensure!(less.contains(&format!("{place}, more than the 39 that fleet.toml says")), "{less}");

    // Without the yes of the fleet in force nobody logs in, and the default counts.
    fleet.write("fleet.toml", text.replace("check_databases = true\n", ""))?;
    operator.done(["apply".as_ref(), fleet.arg(), "--yes".as_ref(), "--wait".as_ref()]).await?;
    fleet.write("fleet.toml", &text)?;
    let unasked = planned().await?;
    ensure!(!unasked.contains("CV561"), "{unasked}");
    Ok(())
}
