//! The server's environment, built from nothing: what the agent inherited never reaches it.

use std::collections::BTreeMap;

use fleet::bundle::ServiceSettings;

/// Where a start script finds its tools.
#[cfg(unix)]
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
#[cfg(not(unix))]
const PATH: &str = r"C:\Windows\System32;C:\Windows;C:\Windows\System32\Wbem";
/// What no Windows program starts without.
#[cfg(not(unix))]
const SYSTEM: [(&str, &str); 4] = [
    ("SystemRoot", r"C:\Windows"),
    ("ComSpec", r"C:\Windows\System32\cmd.exe"),
    ("PATHEXT", ".COM;.EXE;.BAT;.CMD"),
    ("OS", "Windows_NT"),
];

/// Every variable of the server.
pub fn environment(
    service: &ServiceSettings,
    java_home: &str,
    user: Option<&str>,
) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", PATH),
        ("LANG", "C.UTF-8"),
        ("CARBON_HOME", service.home.as_str()),
        ("JAVA_HOME", java_home),
        ("HOME", service.home.as_str()),
        ("USER", user.unwrap_or("wso2")),
    ];
    let mut all: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    #[cfg(not(unix))]
    all.extend(SYSTEM.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // The names above and the loader's are refused in a bundle before it gets here.
    all.extend(service.env.clone());
    all
}
