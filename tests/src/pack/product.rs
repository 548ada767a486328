//! The packs that can be imitated: every Identity Server from 5.9 and API Manager from 3.0, with their components.

use std::fmt;
use std::str::FromStr;

use crate::standin::descriptor::{Descriptor, Port, PortKind, Role};

/// Which distribution a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distribution {
    IdentityServer,
    /// Identity Server with the key manager built in, of the API Manager 3.0 and 3.1 generation.
    KeyManager,
    ApiManager,
    ControlPlane,
    Gateway,
    TrafficManager,
}

impl Distribution {
    /// The pack's name before the version.
    pub fn prefix(self) -> &'static str {
        match self {
            Distribution::IdentityServer => "wso2is",
            Distribution::KeyManager => "wso2is-km",
            Distribution::ApiManager => "wso2am",
            Distribution::ControlPlane => "wso2am-acp",
            Distribution::Gateway => "wso2am-universal-gw",
            Distribution::TrafficManager => "wso2am-tm",
        }
    }

    fn role(self) -> Role {
        match self {
            Distribution::IdentityServer | Distribution::KeyManager => Role::IdentityServer,
            Distribution::ApiManager => Role::AllInOne,
            Distribution::ControlPlane => Role::ControlPlane,
            Distribution::Gateway => Role::Gateway,
            Distribution::TrafficManager => Role::TrafficManager,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Distribution::IdentityServer => "WSO2 Identity Server",
            Distribution::KeyManager => "WSO2 Identity Server as Key Manager",
            Distribution::ApiManager => "WSO2 API Manager",
            Distribution::ControlPlane => "WSO2 API Control Plane",
            Distribution::Gateway => "WSO2 Universal Gateway",
            Distribution::TrafficManager => "WSO2 Traffic Manager",
        }
    }
}

/// Version, Carbon kernel, and the mapper's last number after `1.0.`, as the products' own builds pin them.
type Release = ((u8, u8), &'static str, u8);

const IDENTITY_SERVERS: [Release; 9] = [
    ((5, 9), "4.5.1", 2),
    ((5, 10), "4.6.0", 2),
    ((5, 11), "4.6.1", 2),
    ((6, 0), "4.7.1", 13),
    ((6, 1), "4.9.0", 13),
    ((7, 0), "4.10.9", 22),
    ((7, 1), "4.10.42", 22),
    ((7, 2), "4.10.101", 22),
    ((7, 3), "4.12.34", 22),
];

const API_MANAGERS: [Release; 11] = [
    ((3, 0), "4.5.1", 2),
    ((3, 1), "4.6.0", 2),
    ((3, 2), "4.6.0", 2),
    ((4, 0), "4.6.2", 18),
    ((4, 1), "4.6.3", 20),
    ((4, 2), "4.8.1", 20),
    ((4, 3), "4.9.26", 23),
    ((4, 4), "4.9.27", 23),
    ((4, 5), "4.9.28", 23),
    ((4, 6), "4.9.33", 23),
    ((4, 7), "4.11.18", 26),
];

/// A distribution of a known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    pub distribution: Distribution,
    /// Major and minor; every pack is a `.0`.
    pub version: (u8, u8),
    kernel: &'static str,
    mapper: u8,
}

/// A product name that cannot be used.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no known product; write for example wso2is-7.2, wso2am-4.5 or wso2am-universal-gw-4.6")]
pub struct UnknownProduct(String);

impl Product {
    /// Every product, in order.
    pub fn all() -> impl Iterator<Item = Product> {
        let with = |distribution, (version, kernel, mapper): Release| Product {
            distribution,
            version,
            kernel,
            mapper,
        };
        let identity = IDENTITY_SERVERS.map(|release| with(Distribution::IdentityServer, release));
        let key_managers =
            IDENTITY_SERVERS.into_iter().take(2).map(move |release| with(Distribution::KeyManager, release));
        let all_in_one = API_MANAGERS.map(|release| with(Distribution::ApiManager, release));
        let components = [Distribution::ControlPlane, Distribution::Gateway, Distribution::TrafficManager];
        let components = components.into_iter().flat_map(move |distribution| {
            let split = API_MANAGERS.into_iter().filter(|release| (4, 5) <= release.0);
            split.map(move |release| with(distribution, release))
        });
        identity.into_iter().chain(key_managers).chain(all_in_one).chain(components)
    }

    /// Name of the pack's folder, e.g. `wso2is-7.2.0`.
    pub fn pack_name(self) -> String {
        format!("{}.0", self)
    }

    /// Full version, e.g. `7.2.0`.
    pub fn full_version(self) -> String {
        format!("{}.{}.0", self.version.0, self.version.1)
    }

    pub fn is_apim(self) -> bool {
        !matches!(self.distribution, Distribution::IdentityServer | Distribution::KeyManager)
    }

    /// Start scripts in `bin/` without their ending; the first is the one to use.
    pub fn scripts(self) -> &'static [&'static str] {
        match self.distribution {
            Distribution::IdentityServer | Distribution::KeyManager => &["wso2server"],
            Distribution::ApiManager if self.version < (4, 0) => &["wso2server"],
            Distribution::ApiManager => &["api-manager"],
            Distribution::ControlPlane => &["api-cp", "key-manager"],
            Distribution::Gateway => &["gateway"],
            Distribution::TrafficManager => &["traffic-manager"],
        }
    }

    /// `-Dprofile=` values that `profileSetup.sh` knows; none where the pack has no such script.
    pub fn profiles(self) -> &'static [&'static str] {
        match (self.distribution, self.version) {
            (Distribution::ControlPlane, _) => &["key-manager"],
            (Distribution::ApiManager, (3, _)) => {
                &["api-key-manager", "api-publisher", "api-devportal", "traffic-manager", "gateway-worker"]
            }
            (Distribution::ApiManager, (4, 0 | 1)) => &[
                "control-plane",
                "traffic-manager",
                "gateway-worker",
                "api-key-manager-deprecated",
                "api-publisher-deprecated",
                "api-devportal-deprecated",
            ],
            (Distribution::ApiManager, (4, 2)) => {
                &["control-plane", "traffic-manager", "gateway-worker", "api-key-manager-deprecated"]
            }
            (Distribution::ApiManager, (4, 3 | 4)) => {
                &["control-plane", "traffic-manager", "gateway-worker", "api-key-manager-node"]
            }
            _ => &[],
        }
    }

    /// The profile by its full name, or by `key-manager` whatever suffix that one has in this version.
    fn has_profile(self, name: &str) -> bool {
        self.profiles().iter().any(|profile| {
            *profile == name || profile.strip_prefix("api-").is_some_and(|profile| profile.starts_with(name))
        })
    }

    /// Whether the script starts the diagnostics tool beside the server.
    pub fn has_diagnostics(self) -> bool {
        self.is_apim() && (4, 3) <= self.version
    }

    /// Whether the script runs the encryption key generator first.
    pub fn has_key_generator(self) -> bool {
        self.is_apim() && (4, 7) <= self.version
    }

    /// Identity Server 7.x takes its OpenSSL settings from a generated file.
    pub fn exports_openssl(self) -> bool {
        !self.is_apim() && (7, 0) <= self.version
    }

    /// What the `.sh` says about the JDK.
    pub fn jdk_rule(self) -> JdkRule {
        let unsupported = |low, high, text| JdkRule { low, high, text, fatal: false };
        match (self.is_apim(), self.version) {
            (false, version) if (7, 3) <= version => JdkRule {
                low: 21,
                high: u16::MAX,
                text: " [ERROR] WSO2 Identity Server requires JDK 21 or higher.",
                fatal: true,
            },
            (true, version) if (4, 7) <= version => {
                unsupported(21, 25, " [ERROR] CARBON is supported only between JDK 21 and JDK 25")
            }
            (false, version) if (7, 1) <= version => {
                unsupported(11, 21, " [ERROR] CARBON is supported only between JDK 11 and JDK 21")
            }
            (true, version) if (4, 3) <= version => {
                unsupported(11, 21, " [ERROR] CARBON is supported only between JDK 11 and JDK 21")
            }
            (false, version) if (6, 0) <= version => {
                unsupported(11, 17, " [ERROR] CARBON is supported only between JDK 11 and JDK 17")
            }
            (true, version) if (4, 2) <= version => {
                unsupported(11, 17, " [ERROR] CARBON is supported only between JDK 11 and JDK 17")
            }
            _ => unsupported(7, 11, " [ERROR] CARBON is supported only on JDK 1.7, 1.8, 9, 10 and 11"),
        }
    }

    /// A JDK that the product takes.
    pub fn jdk_version(self) -> &'static str {
        match self.jdk_rule().high {
            ..17 => "11.0.24",
            17..21 => "17.0.12",
            21.. => "21.0.5",
        }
    }

    /// First line of `bin/version.txt`.
    pub fn version_line(self) -> String {
        format!("{} v{}", self.distribution.title(), self.full_version())
    }

    /// First line of `bin/wso2carbon-version.txt`.
    pub fn kernel_line(self) -> String {
        format!("WSO2 Carbon Framework v{}", self.kernel)
    }

    /// What the stand-in is told.
    pub fn descriptor(self) -> Descriptor {
        Descriptor {
            name: self.distribution.title().to_owned(),
            version: self.full_version(),
            kernel: self.kernel.to_owned(),
            role: self.distribution.role(),
            console_line: self.is_apim() || self.version < (7, 0),
            mapper_warns: self.mapper <= 13,
            ports: self.ports(),
        }
    }

    /// Listening ports before the offset. RMI (JMX) and the old thrift ports are left out: nothing probes them.
    pub fn ports(self) -> Vec<Port> {
        let mut ports = vec![(9763, PortKind::ServletHttp), (9443, PortKind::ServletHttps)];
        let role = self.distribution.role();
        if role.is_gateway() {
            ports.extend([(8280, PortKind::PassthroughHttp), (8243, PortKind::PassthroughHttps)]);
            ports.extend([(9099, PortKind::WebSocket), (8099, PortKind::WebSocketTls)]);
            if (4, 0) <= self.version {
                ports.extend([(9021, PortKind::Webhook), (8021, PortKind::WebhookTls)]);
            }
        }
        if matches!(role, Role::AllInOne | Role::ControlPlane | Role::TrafficManager) {
            ports.extend([(5672, PortKind::Broker), (8672, PortKind::Plain)]);
            ports.extend([(9611, PortKind::Plain), (9711, PortKind::Plain)]);
        }
        ports.into_iter().map(|(number, kind)| Port { number, kind }).collect()
    }
}

/// How a start script judges the JDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JdkRule {
    pub low: u16,
    pub high: u16,
    pub text: &'static str,
    /// The script ends with 1 instead of going on.
    pub fatal: bool,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.distribution.prefix(), self.version.0, self.version.1)
    }
}

impl FromStr for Product {
    type Err = UnknownProduct;

    /// Takes `wso2is-7.2` as well as the pack's name `wso2is-7.2.0`, and a pack with a profile such as
    /// `wso2am-4.2-gateway-worker`: the pack is the same, the profile comes with the start's arguments.
    fn from_str(text: &str) -> Result<Product, UnknownProduct> {
        let is_profile_of = |product: &Product| {
            let profile = text.strip_prefix(&product.to_string()).and_then(|rest| rest.strip_prefix('-'));
            profile.is_some_and(|profile| product.has_profile(profile))
        };
        Product::all()
            .find(|product| {
                product.to_string() == text || product.pack_name() == text || is_profile_of(product)
            })
            .ok_or_else(|| UnknownProduct(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_is_found_by_both_of_its_names() {
        for product in Product::all() {
            assert_eq!(product.to_string().parse(), Ok(product));
            assert_eq!(product.pack_name().parse(), Ok(product));
        }
        assert_eq!(Product::all().count(), 9 + 2 + 11 + 3 * 3);
        assert!("wso2is-9.9".parse::<Product>().is_err());
    }

    #[test]
    fn a_profile_names_its_pack() {
        for name in
            ["wso2am-4.2-gateway-worker", "wso2am-4.2-key-manager", "wso2am-4.2-api-key-manager-deprecated"]
        {
            assert_eq!(
                name.parse::<Product>().map(Product::pack_name).as_deref(),
                Ok("wso2am-4.2.0"),
                "{name}"
            );
        }
        assert!("wso2am-4.2-nonsense".parse::<Product>().is_err());
        assert!("wso2is-7.2-gateway-worker".parse::<Product>().is_err());
    }

    #[test]
    fn every_pack_comes_with_a_jdk_that_it_takes() {
        for product in Product::all() {
            let (rule, version) = (product.jdk_rule(), product.jdk_version());
            let feature: u16 =
                version.split('.').next().and_then(|feature| feature.parse().ok()).expect("a number");
            assert!((rule.low..=rule.high).contains(&feature), "{product}: {version}");
        }
    }
}
