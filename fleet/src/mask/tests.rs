//! Files of our own making. Every secret in them holds `S3CRET`; nothing else does.

use std::collections::BTreeMap;

use super::*;

/// A file by its name, so that a failure says which.
const CORPUS: [(&str, &str); 26] = [
    (
        "user-mgt.xml",
        "<UserManager>\n  <Realm>\n    <AdminUser>\n      <UserName>boss</UserName>\n      <Password>S3CRET-1</Password>\n\
         \x20   </AdminUser>\n    <Property name=\"ConnectionPassword\">S3CRET-2</Property>\n    <Property \
         name=\"ConnectionURL\">ldap://directory:389</Property>\n    <Property name='url'>jdbc:x://u:S3CRET-3@db/x</Property>\n\
         \x20 </Realm>\n</UserManager>\n",
    ),
    (
        "datasources.xml",
        "<datasources>\n  <datasource>\n    <name>AM_DB</name>\n    <definition>\n      <configuration>\n        \
         <url>jdbc:mysql://db:3306/am?user=u&amp;password=S3CRET-1&amp;useSSL=false</url>\n        <username>am</username>\n\
         \x20       <password>\n          S3CRET-2\n          S3CRET-3\n        </password>\n        <maxActive>50</maxActive>\n\
         \x20     </configuration>\n    </definition>\n  </datasource>\n</datasources>\n",
    ),
    (
        "attributes.xml",
        "<server>\n  <Connector port=\"9443\" keystoreFile=\"own.p12\" keystorePass=\"S3CRET-1\"/>\n  <entry key=\"pin\" \
         value=\"S3CRET-2\"/>\n  <entry value=\"S3CRET-3\" key=\"consumer_key\"/>\n  <entry key=\"host\" value=\"a\"/>\n  \
         <x:credential xmlns:x='u'><![CDATA[S3CRET<4]]></x:credential>\n</server>\n",
    ),
    (
        "pairs.xml",
        "<context>\n  <param><param-name>client_credential</param-name><param-value>S3CRET-1</param-value></param>\n  \
         <param>\n    <name>secret.salt</name>\n    <value>S3CRET-2</value>\n  </param>\n  <param><name>mode</name>\
         <value>fast</value></param>\n  <!-- <password>S3CRET-3</password> -->\n</context>\n",
    ),
    ("broken.xml", "<a>\n  <b attr=\"1\">\n  <secret>S3CRET-1\n    S3CRET-2\n"),
    (
        "nested.json",
        "{\n  \"host\": \"a\",\n  \"credentials\": {\n    \"user\": \"S3CRET-1\",\n    \"deep\": [\"S3CRET-2\", {\"x\": \
         \"S3CRET-3\"}]\n  },\n  \"apiKey\": \"S3CRET-4\",\n  \"pin\": \"S3CRET-5\",\n  \"port\": 8080\n}\n",
    ),
    (
        "pairs.json",
        "[{\"name\": \"DB_PASS\", \"value\": \"S3CRET-1\"}, {\"value\": \"S3CRET-2\", \"name\": \"token\"}, {\"name\": \
         \"MODE\", \"value\": \"fast\"}]\n",
    ),
    ("inside.json", "{\"body\": \"{\\\"password\\\":\\\"S3CRET-1\\\",\\\"port\\\":1}\", \"note\": \"x\"}\n"),
    ("cut-off.json", "{\"a\": 1, \"secret\": {\"x\": \"S3CRET-1\",\n \"y\": \"S3CRET-2\"\n"),
    (
        "values.yaml",
        "wso2:\n  hostname: am.example.org\n  admin:\n    password: S3CRET-1\n  keystore:\n    privateKey: |\n      \
         S3CRET-2\n      S3CRET-3\n    alias: acme\n  salt: >-\n    S3CRET-4\n  replicas: 2\n",
    ),
    (
        "deployment.yaml",
        "spec:\n  containers:\n    - name: am\n      env:\n        - name: DB_PASSWORD\n          value: \"S3CRET-1\"\n        \
         - name: MODE\n          value: fast\n      args: [\"--token\", \"x\"]\n",
    ),
    ("flow.yaml", "db: {host: a, password: S3CRET-1, port: 1}\nclient-secret: 'S3CRET-2'\nname: x\n"),
    (
        "app.properties",
        "host=a\ndb.password=S3CRET-1\nconsumer_key = S3CRET-2\nclient.credential:S3CRET-3\nsigning.key=S3CRET-4 \\\n  \
         S3CRET-5\nport=9443\n# old.password=S3CRET-6\n",
    ),
    (
        "env.sh",
        "#!/bin/sh\nexport DB_PASS=S3CRET-1\nAPI_TOKEN='S3CRET-2'\ncurl -k -u admin:S3CRET-3 https://a:9443/x\ncurl -H \
         \"Authorization: Bearer S3CRET.4aB\" https://a\nkeytool -list -storepass S3CRET-5 -keystore a.jks\nmysql \
         --password=S3CRET-6 -h db\n./run --client-secret S3CRET-7 --verbose\nJAVA_OPTS=\"-Xmx1g \
         -Djavax.net.ssl.keyStorePassword=S3CRET-8\"\n",
    ),
    (
        "header.txt",
        "GET /x HTTP/1.1\nHost: a\nauthorization: Basic S3CRETabc==\nCookie: id=S3CRET-2; b=S3CRET-3\nAccept: */*\n",
    ),
    (
        "key.pem",
        "# of acme\n-----BEGIN PRIVATE KEY-----\nS3CRETMIIE\nS3CRET+x==\n-----END PRIVATE KEY-----\n",
    ),
    (
        "one-line.txt",
        "pem = \"-----BEGIN RSA PRIVATE KEY-----\\nS3CRETabc\\n-----END RSA PRIVATE KEY-----\"\nmode = fast\n",
    ),
    ("token.txt", "see eyJS3CRETabc.eyJS3CRETdef.S3CRETsig for more\nand eyJ alone\n"),
    (
        "jndi.properties",
        "connectionfactory.x = amqp://u:S3CRET-1@c/c?brokerlist='tcp://a:5672'\nqueue.x = x\n",
    ),
    (
        "unparsed.conf",
        "server {\n  listen 443\n  auth_token => \"S3CRET-1\";\n  ;; passphrase = S3CRET-2\n}\n",
    ),
    (
        "lists.yaml",
        "db:\n  host: a\npasswords:\n- S3CRET-1\n- S3CRET-2\nmode: fast\ntokens:\n  - id: S3CRET-3\n    value: \
         S3CRET-4\nclient_secret: \"S3CRET-5\n  S3CRET-6\"\npassphrase: S3CRET-7\n  S3CRET-8\nport: 1\n",
    ),
    (
        "web.xml.j2",
        "{% if ssl.enabled %}\n<Connector port=\"{{port}}\" keystorePass=\"{{pass}}\"/>\n{% endif %}\n<Realm>\n  \
         <ConnectionPassword>\n    S3CRET-1\n  </ConnectionPassword>\n  <Encryption key=\"S3CRET-2\"/>\n</Realm>\n",
    ),
    (
        "answers.ini",
        "[admin]\nname = boss\npassword = S3CRET-1 and S3CRET-2\n; pwd=S3CRET-3\n[tls]\nstorepass=\"S3CRET-4\"\nmode = \
         strict\n",
    ),
    (
        "pipeline.groovy",
        "env.API_KEY = 'S3CRET-1'\nsh \"docker login -u ci -p x --password S3CRET-2 registry\"\ndef url = \
         \"https://ci:S3CRET-3@git/x.git\"\nprintln 'built'\n",
    ),
    (
        "logs.txt",
        "INFO connected to db:3306 as am\nWARN login failed {\"user\":\"u\",\"pwd\":\"S3CRET-1\"}\nDEBUG POST /token \
         client_id=a&client_secret=S3CRET-2&scope=x\nDEBUG Proxy-Authorization: Basic S3CRETabc==\n",
    ),
    (
        "adaptive.js",
        "var cfg = { endpoint: 'https://a/b', apiKey: 'S3CRET-1' };\nvar clientSecret = \"S3CRET-2\";\n// \
         accessToken: S3CRET-3\nlog('done');\n",
    ),
];

#[test]
fn no_secret_of_the_corpus_is_shown() {
    for (name, text) in CORPUS {
        assert!(text.contains("S3CRET"), "{name}");
        let shown = text_lines(text);
        assert_eq!(shown.len(), text.lines().count(), "{name}");
        for (line, shown) in text.lines().zip(&shown) {
            assert!(!shown.contains("S3CRET"), "{name}: {line}\n{shown}");
        }
    }
}

#[test]
fn few_lines_without_a_secret_are_masked() {
    let (mut lines, mut masked) = (0, Vec::new());
    for (name, text) in CORPUS {
        for (line, shown) in text.lines().zip(text_lines(text)) {
            if !line.contains("S3CRET") && !line.trim().is_empty() {
                lines += 1;
                masked.extend((line != shown).then(|| format!("{name}: {line}")));
            }
        }
    }
    println!("{} of {lines} lines without a secret are masked: {masked:#?}", masked.len());
    assert!(masked.len() * 20 <= lines, "{masked:#?}");
}

#[test]
fn no_secret_of_a_toml_is_shown_whether_it_parses_or_not() {
    let toml = "[a]\nhost = \"h\"\npin = \"S3CRET-1\"\nconsumer_key = \"S3CRET-2\"\nsalt = '''\nS3CRET-3\n'''\n\
                url = \"amqp://u:S3CRET-4@h:1/x?password=S3CRET-5&y=1\"\n# curl -u a:S3CRET-6 x\n\
                t = { client_credential = \"S3CRET-7\", port = 1 }\nheader = \"Authorization: Bearer S3CRET.8ab\"\n";
    for text in [toml.to_owned(), format!("{toml}broken = \n")] {
        let shown = toml_lines(&text);
        assert_eq!(shown.len(), text.lines().count());
        assert!(shown.iter().all(|line| !line.contains("S3CRET")), "{shown:#?}");
        assert!(shown.iter().any(|line| line == "host = \"h\""), "{shown:#?}");
    }
}

#[test]
fn values_are_hidden_whose_name_stands_beside_them_or_that_go_over_several_lines() {
    let toml = "[[event.properties]]\nvalue = \"S3CRET-1\"\nname = \"client_secret\"\n[x]\nbody = '''\n<a>\n<password>\n\
                S3CRET-2\n</password>\n</a>\n'''\nkeys = [\n  \"S3CRET-3\",\n]\n[secrets]\ndb = \"\"\"\nS3CRET-4\n\"\"\"\n";
    for text in [toml.to_owned(), format!("{toml}broken = \n")] {
        let shown = toml_lines(&text);
        assert_eq!(shown.len(), text.lines().count());
        assert!(shown.iter().all(|line| !line.contains("S3CRET")), "{shown:#?}");
    }
}

#[test]
fn public_keys_that_may_sign_are_shown_and_nothing_else_in_their_place() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE/mSM43XW2wqo7RNF0Kcf6SMDl1gkX2NwT1EL/pvXK ann@acme";
    let shown = |text: &str| toml_lines(text).join("\n");
    for text in [
        format!("[signatures]\nkeys = [\"{key}\"]"),
        format!("[signatures]\nrequired = true\nkeys = [\n  \"{key}\",\n  '{key}',\n]"),
        format!("signatures = {{ keys = [\"{key}\"], required = true }}"),
        format!("signatures.keys = [\"{key}\"]"),
    ] {
        assert_eq!(shown(&text), text);
    }
    let beside =
        shown(&format!("[signatures]\nkeys = [\"{key}\"] # password = S3CRET\ntoken = \"S3CRET\"\n"));
    assert!(beside.contains("ann@acme") && !beside.contains("S3CRET"), "{beside}");
    for hidden in [
        // A private key, one among others, and other tables.
        "[signatures]\nkeys = [\"RWRTY0IyS3CRET\"]".to_owned(),
        format!("[signatures]\nkeys = [\"{key}\", \"S3CRET\"]"),
        format!("[other]\nkeys = [\"{key} S3CRET\"]"),
        format!("[signatures]\nkeys = [\"{key} S3CRET\"]\nbroken = \n"),
        format!("[x.signatures]\nkeys = [\"{key} S3CRET\"]"),
    ] {
        assert!(!shown(&hidden).contains("S3CRET"), "{}", shown(&hidden));
    }
}

#[test]
fn one_line_is_looked_at_by_structure_too() {
    for line in [
        "<Password>S3CRET</Password>",
        "<Property name=\"ConnectionPassword\">S3CRET</Property>",
        "Authorization: Bearer S3CRET.abc",
        "caused by: {\"name\": \"x\", \"password\": \"S3CRET\"}",
        "-Dkey.password=S3CRET -Xmx1g",
    ] {
        let shown = super::line(line);
        assert!(!shown.contains("S3CRET"), "{shown}");
    }
    assert!(super::line("-Dkey.password=S3CRET -Xmx1g").ends_with(" -Xmx1g"));
}

#[test]
fn what_says_nothing_is_shown() {
    for line in [
        "password = \"$secret{db}\"",
        "password: ${DB_PASSWORD}",
        "hash_tokens = true",
        "token_endpoint = \"https://a/token\"",
        "keystore.alias = acme",
        "passwordPolicyUrl: https://a/b",
        "tcp://a:5672,tcp://b:5673",
        "the token is read from a file",
    ] {
        let shown = text_lines(line);
        let may_hide = line.starts_with("passwordPolicyUrl");
        assert!(may_hide || shown == [line], "{line}: {shown:?}");
    }
}

#[test]
fn hostile_texts_end_quickly_and_keep_their_lines() {
    for unit in [
        "<password>",
        "<a b=\"",
        "{\"secret\":",
        "\"",
        "password=",
        "-----BEGIN X-----\n",
        "key: |\n ",
        "://a:b@",
        "[\"",
        "eyJ.",
    ] {
        let text = unit.repeat(20_000);
        assert_eq!(text_lines(&text).len(), text.split_inclusive('\n').count(), "{unit}");
    }
}

/// The product's own files, where they are at hand: what it writes with its defaults.
#[test]
#[allow(clippy::disallowed_methods, reason = "the product's own files are not part of the project")]
fn few_lines_of_the_product_are_masked() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/wso2/golden/is-7.2.0/default");
    if !std::path::Path::new(root).exists() {
        println!("NOT EXERCISED: the product's files are not here");
        return;
    }
    let mut folders = vec![std::path::PathBuf::from(root)];
    let (mut lines, mut masked) = (0, BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            for (line, shown) in text.lines().zip(text_lines(&text)) {
                lines += 1;
                if line != shown {
                    *masked.entry(line.trim().to_owned()).or_insert(0) += 1;
                }
            }
        }
    }
    let count: usize = masked.values().sum();
    println!("{count} of {lines} lines are masked: {masked:#?}");
    assert!(0 < count && count * 50 <= lines, "{count} of {lines}: {masked:#?}");
}
