//! The files of a pack: versions, configuration, rules, templates, keystores. Own writing, in the real formats.

use serde_json::{Map, Value, json};

use super::PackSpec;
use super::product::Product;
use crate::standin::descriptor;

const CONF: &str = "repository/conf";
const RESOURCES: &str = "repository/resources/conf";

/// Path below the home, and text.
pub fn files(spec: &PackSpec) -> Vec<(String, String)> {
    let product = spec.product;
    let mut files = vec![
        ("bin/version.txt".to_owned(), format!("{}\n", product.version_line())),
        ("bin/wso2carbon-version.txt".to_owned(), format!("{}\n", product.kernel_line())),
        (descriptor::FILE.to_owned(), descriptor_text(product)),
        (format!("{CONF}/deployment.toml"), deployment_toml(product, spec.offset)),
        (format!("{CONF}/log4j2.properties"), log4j2(product)),
        (format!("{RESOURCES}/default.json"), pretty(&defaults(product))),
        (format!("{RESOURCES}/infer.json"), pretty(&inferences(product))),
        (format!("{RESOURCES}/key-mappings.json"), pretty(&json!({}))),
        (format!("{RESOURCES}/unit-resolve.json"), pretty(&json!({ "time": {} }))),
        (format!("{RESOURCES}/validator.json"), pretty(&json!({}))),
    ];
    for (path, text) in templates(product) {
        files.push((format!("{RESOURCES}/templates/{path}"), text.to_owned()));
    }
    for profile in product.profiles() {
        let text = format!("{}\n[standin]\nprofile = \"{profile}\"\n", deployment_toml(product, spec.offset));
        files.push((format!("{RESOURCES}/deployment-templates/{profile}.toml"), text));
    }
    files
}

/// Name in `repository/resources/security`, and content: real stores made by JDK 17's keytool, with the password, key
/// password and alias `wso2carbon` that every pack is shipped with. Agents open them before they apply a bundle.
pub const KEYSTORES: [(&str, &[u8]); 4] = [
    ("wso2carbon.jks", include_bytes!("keystores/wso2carbon.jks")),
    ("wso2carbon.p12", include_bytes!("keystores/wso2carbon.p12")),
    ("client-truststore.jks", include_bytes!("keystores/client-truststore.jks")),
    ("client-truststore.p12", include_bytes!("keystores/client-truststore.p12")),
];

fn descriptor_text(product: Product) -> String {
    // Serialising plain data to TOML fails only for types that the descriptor does not have.
    toml::to_string(&product.descriptor()).unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn deployment_toml(product: Product, offset: u16) -> String {
    let (databases, user_store) = if product.is_apim() {
        (["apim_db", "shared_db"].as_slice(), "database_unique_id")
    } else {
        (["identity_db", "shared_db"].as_slice(), "database_unique_id")
    };
    let mut text = format!(
        "# The configuration that this pack is shipped with.\n[server]\nhostname = \"localhost\"\nnode_ip = \
         \"127.0.0.1\"\noffset = {offset}\nbase_path = \"https://$ref{{server.hostname}}:${{carbon.management.port}}\"\n\n\
         [super_admin]\nusername = \"admin\"\npassword = \"admin\"\ncreate_admin_account = true\n\n\
         [user_store]\ntype = \"{user_store}\"\n"
    );
    for name in databases {
        text.push_str(&format!(
            "\n[database.{name}]\ntype = \"h2\"\nurl = \"jdbc:h2:./repository/database/{}\"\nusername = \
             \"wso2carbon\"\npassword = \"wso2carbon\"\n",
            name.to_uppercase()
        ));
    }
    text.push_str(
        "\n[keystore.primary]\nfile_name = \"wso2carbon.jks\"\npassword = \"wso2carbon\"\n\n[truststore]\nfile_name = \
         \"client-truststore.jks\"\npassword = \"wso2carbon\"\ntype = \"JKS\"\n",
    );
    text
}

fn log4j2(product: Product) -> String {
    let (level, layout) = if product.is_apim() {
        ("ERROR", "TID: [%tenantId] [%appName] [%d] %5p {%c} - %m%ex%n")
    } else {
        ("INFO", "TID: [%tenantId] [%appName] [%d] [%X{Correlation-ID}] %5p {%c} - %m%ex%n")
    };
    format!(
        "appenders = CARBON_LOGFILE\n\nappender.CARBON_LOGFILE.type = RollingFile\nappender.CARBON_LOGFILE.name = \
         CARBON_LOGFILE\nappender.CARBON_LOGFILE.fileName = ${{sys:carbon.home}}/repository/logs/wso2carbon.log\n\
         appender.CARBON_LOGFILE.layout.type = PatternLayout\nappender.CARBON_LOGFILE.layout.pattern = {layout}\n\n\
         rootLogger.level = {level}\nrootLogger.appenderRef.CARBON_LOGFILE.ref = CARBON_LOGFILE\n"
    )
}

fn defaults(product: Product) -> Value {
    let mut defaults: Map<String, Value> = Map::new();
    let mut put = |key: &str, value: Value| {
        defaults.insert(key.to_owned(), value);
    };
    put("server.hostname", json!("localhost"));
    put("server.node_ip", json!("127.0.0.1"));
    put("server.offset", json!("0"));
    put("server.server_role", json!("default"));
    put("super_admin.username", json!("admin"));
    put("super_admin.admin_role", json!("admin"));
    put("carbon_health_check.enable", json!(false));
    put("transport.https.properties.port", json!("9443"));
    put("transport.http.properties.port", json!("9763"));
    put("clustering.membership_scheme", json!("local"));
    put("clustering.local_member_port", json!("4000"));
    if product.is_apim() {
        put("apim.key_manager.type", json!("default"));
        put("apim.key_manager.service_url", json!("https://localhost:${mgt.transport.https.port}/services/"));
    }
    Value::Object(defaults)
}

fn inferences(product: Product) -> Value {
    let mut inferences = json!({
        "database.$1.type": {
            "h2": { "database.$1.driver": "org.h2.Driver" },
            "mysql": {
                "database.$1.driver": "com.mysql.cj.jdbc.Driver",
                "database.$1.validationQuery": "SELECT 1"
            }
        }
    });
    let own = if product.is_apim() { APIM_KEYS } else { IS_KEYS };
    for key in KEYS.iter().chain(own) {
        inferences[*key] = json!({});
    }
    inferences
}

/// Keys that the real products read in templates too large to be rewritten here. A trigger without cases infers nothing
/// and says that the product knows the key; without it `lint` would call them unknown.
const KEYS: &[&str] = &[
    "server.base_path",
    "super_admin.password",
    "super_admin.create_admin_account",
    "database.$1.hostname",
    "database.$1.port",
    "database.$1.name",
    "database.$1.url",
    "database.$1.username",
    "database.$1.password",
    "database.$1.pool_options.*",
    "keystore.$1.file_name",
    "keystore.$1.type",
    "keystore.$1.password",
    "keystore.$1.alias",
    "keystore.$1.key_password",
    "truststore.file_name",
    "truststore.type",
    "truststore.password",
    "transport.https.properties.*",
    "clustering.domain",
    "clustering.local_member_host",
    "clustering.members",
    "event_listener[].id",
    "event_listener[].type",
    "event_listener[].name",
    "event_listener[].order",
    "event_listener[].properties.*",
];

const IS_KEYS: &[&str] = &[
    "datasource.$1.id",
    "datasource.$1.url",
    "datasource.$1.username",
    "datasource.$1.password",
    "datasource.$1.driver",
    "oauth.authorize_all_scopes",
    "oauth.token_validation.app_access_token_validity",
    "oauth.token_validation.user_access_token_validity",
    "oauth.token_validation.refresh_token_validity",
    "role_mgt.allow_system_prefix_for_role",
    "resource.access_control[].context",
    "resource.access_control[].secure",
    "resource.access_control[].http_method",
    "resource.access_control[].cross_tenant",
    "resource.access_control[].permissions",
    "resource.access_control[].scopes",
    "account_recovery.endpoint.auth.hash",
    "identity.auth_framework.endpoint.app_password",
];

const APIM_KEYS: &[&str] = &[
    "apim.gateway_type",
    "apim.gateway.environment[].name",
    "apim.gateway.environment[].type",
    "apim.gateway.environment[].gateway_type",
    "apim.gateway.environment[].provider",
    "apim.gateway.environment[].display_in_api_console",
    "apim.gateway.environment[].description",
    "apim.gateway.environment[].show_as_token_endpoint_url",
    "apim.gateway.environment[].service_url",
    "apim.gateway.environment[].username",
    "apim.gateway.environment[].password",
    "apim.gateway.environment[].ws_endpoint",
    "apim.gateway.environment[].wss_endpoint",
    "apim.gateway.environment[].http_endpoint",
    "apim.gateway.environment[].https_endpoint",
    "apim.sync_runtime_artifacts.gateway.gateway_labels",
    "apim.key_manager.type",
    "apim.key_manager.username",
    "apim.key_manager.password",
    "apim.key_manager.enable_lightweight_apikey_generation",
    "apim.jwt.issuer[].name",
    "apim.jwt.issuer[].jwks.url",
    "apim.jwt.enable",
    "apim.jwt.encoding",
    "apim.jwt.claim_dialect",
    "apim.jwt.header",
    "apim.jwt.signing_algorithm",
    "apim.jwt.enable_user_claims",
    "apim.token.revocation.enable_realtime_notifier",
    "apim.token.revocation.realtime_notifier.ttl",
    "apim.cors.allow_origins",
    "apim.cors.allow_methods",
    "apim.cors.allow_headers",
    "apim.cors.allow_credentials",
];

/// Templates use one construct only, `{{ dotted.key }}`, which the stand-in and a full engine read alike.
fn templates(product: Product) -> Vec<(&'static str, &'static str)> {
    let database = if product.is_apim() { APIM_DATASOURCES } else { IS_DATASOURCES };
    let mut templates = vec![
        ("repository/conf/carbon.xml.j2", CARBON_XML),
        ("repository/conf/user-mgt.xml.j2", USER_MGT_XML),
        ("repository/conf/datasources/master-datasources.xml.j2", database),
        ("repository/conf/axis2/axis2.xml.j2", AXIS2_XML),
    ];
    if product.is_apim() {
        templates.push(("repository/conf/api-manager.xml.j2", API_MANAGER_XML));
        templates.push(("XMLInputFactory.properties.j2", "javax.xml.stream.isCoalescing=false\n"));
    } else {
        templates.push(("repository/conf/identity/identity.xml.j2", IDENTITY_XML));
        templates.push(("repository/conf/health-check-config.xml.j2", HEALTH_CHECK_XML));
    }
    if product.exports_openssl() {
        templates.push(("repository/conf/tomcat/openssl.cnf.j2", "[openssl_init]\n"));
    }
    templates
}

const CARBON_XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Server xmlns="http://wso2.org/projects/carbon/carbon.xml">
    <HostName>{{server.hostname}}</HostName>
    <Role>{{server.server_role}}</Role>
    <Ports>
        <Offset>{{server.offset}}</Offset>
    </Ports>
</Server>
"#;

const USER_MGT_XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<UserManager>
    <Realm>
        <Configuration>
            <AdminRole>{{super_admin.admin_role}}</AdminRole>
            <AdminUser>
                <UserName>{{super_admin.username}}</UserName>
            </AdminUser>
        </Configuration>
        <UserStoreManager type="{{user_store.type}}"/>
    </Realm>
</UserManager>
"#;

const IS_DATASOURCES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<datasources-configuration>
    <datasources>
        <datasource><name>WSO2_IDENTITY_DB</name><url>{{database.identity_db.url}}</url></datasource>
        <datasource><name>WSO2_SHARED_DB</name><url>{{database.shared_db.url}}</url></datasource>
    </datasources>
</datasources-configuration>
"#;

const APIM_DATASOURCES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<datasources-configuration>
    <datasources>
        <datasource><name>WSO2AM_DB</name><url>{{database.apim_db.url}}</url></datasource>
        <datasource><name>WSO2_SHARED_DB</name><url>{{database.shared_db.url}}</url></datasource>
    </datasources>
</datasources-configuration>
"#;

const AXIS2_XML: &str = r#"<axisconfig name="AxisJava2.0">
    <clustering membershipScheme="{{clustering.membership_scheme}}" localMemberPort="{{clustering.local_member_port}}"/>
</axisconfig>
"#;

const API_MANAGER_XML: &str = r#"<APIManager>
    <AuthManager type="{{apim.key_manager.type}}"><ServerURL>{{apim.key_manager.service_url}}</ServerURL></AuthManager>
</APIManager>
"#;

const IDENTITY_XML: &str = r#"<Server xmlns="http://wso2.org/projects/carbon/carbon.xml">
    <ServerHostName>{{server.hostname}}</ServerHostName>
</Server>
"#;

const HEALTH_CHECK_XML: &str = r#"<CarbonHealthCheckConfigs>
    <Enable>{{carbon_health_check.enable}}</Enable>
</CarbonHealthCheckConfigs>
"#;
