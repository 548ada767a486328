//! NGINX's language. The free NGINX has no health checks of its own: a server that fails is left out for a while, and
//! one that stops is taken out by an agent that looks after it ([`super::out`]).

use std::fmt::Write as _;

use super::{Balancer, Service, Stickiness, address, head, out};

pub(super) fn text(balancer: &Balancer, fleet: &str, home: Option<&str>) -> String {
    let mut out = head(balancer, (fleet, home), "nginx -t");
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a text cannot fail.
        let _infallible = writeln!(out, "{text}");
    };
    line(format_args!("# It belongs into the http block: a file in /etc/nginx/conf.d."));
    line(format_args!("\nmap $http_upgrade $convoy_connection {{"));
    line(format_args!("    default upgrade;"));
    line(format_args!("    ''      '';"));
    line(format_args!("}}"));
    for (_, services) in balancer.ports() {
        for service in services {
            upstream(service, home, &mut line);
        }
    }
    for (port, services) in balancer.ports() {
        for service in &services {
            server((balancer, home), service, &mut line);
        }
        if services.iter().all(|service| !service.hosts.is_empty()) {
            nobody(balancer, (port, &services), &mut line);
        }
    }
    out
}

/// One upstream with what it reads, without a line before it.
pub(super) fn upstream_text(service: &Service, home: Option<&str>) -> String {
    let mut text = String::new();
    upstream(service, home, &mut |line: std::fmt::Arguments<'_>| {
        // Writing to a text cannot fail.
        let _infallible = writeln!(text, "{line}");
    });
    text.trim().to_owned()
}

fn upstream(service: &Service, home: Option<&str>, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!("\nupstream {} {{", service.name));
    match service.sticky {
        Stickiness::None => line(format_args!("    least_conn;")),
        Stickiness::Address | Stickiness::Cookie => line(format_args!("    ip_hash;")),
    }
    for member in &service.members {
        line(format_args!(
            "    server {} max_fails=3 fail_timeout=10s; # {}",
            address(&member.host, member.port),
            member.name
        ));
    }
    line(format_args!("    keepalive 32;"));
    line(format_args!("}}"));
    for text in home.iter().flat_map(|home| out::reading(&service.name, home)) {
        line(format_args!("{text}"));
    }
}

fn server(
    (balancer, home): (&Balancer, Option<&str>),
    service: &Service,
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let is_default = service.hosts.is_empty();
    line(format_args!("\nserver {{"));
    listen(balancer, (service.listen, service.transport.is_tls(), is_default), line);
    if !is_default {
        line(format_args!("    server_name {};", service.hosts.join(" ")));
    }
    let seconds = service.timeout.as_secs().max(1);
    let (scheme, seconds) = match (service.transport.is_tls(), service.transport.is_long()) {
        (true, is_long) => ("https", if is_long { 3_600 } else { seconds }),
        (false, is_long) => ("http", if is_long { 3_600 } else { seconds }),
    };
    line(format_args!("    client_max_body_size 0;"));
    line(format_args!("    location / {{"));
    let pool = service.nginx_pool(home);
    line(format_args!("        proxy_pass {scheme}://{pool};"));
    line(format_args!("        proxy_http_version 1.1;"));
    for (name, value) in [
        ("Host", "$http_host"),
        ("Upgrade", "$http_upgrade"),
        ("Connection", "$convoy_connection"),
        ("X-Forwarded-Host", "$http_host"),
        ("X-Forwarded-Server", "$hostname"),
        // What clients say of themselves is not believed.
        ("X-Forwarded-For", "$remote_addr"),
        ("X-Forwarded-Port", "$server_port"),
        ("X-Forwarded-Proto", "$scheme"),
    ] {
        line(format_args!("        proxy_set_header {name} {value};"));
    }
    line(format_args!("        proxy_connect_timeout 5s;"));
    line(format_args!("        proxy_read_timeout {seconds}s;"));
    line(format_args!("        proxy_send_timeout {seconds}s;"));
    // A request that may have been acted on is not sent twice.
    line(format_args!("        proxy_next_upstream error timeout;"));
    line(format_args!("        proxy_buffer_size 16k;"));
    line(format_args!("        proxy_buffers 8 16k;"));
    if service.transport.is_tls() {
        upstream_tls(balancer, service, line);
    }
    line(format_args!("    }}"));
    line(format_args!("}}"));
}

fn upstream_tls(balancer: &Balancer, service: &Service, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!("        proxy_ssl_server_name on;"));
    // Otherwise it would be the name of the upstream in use, which changes when a member is taken out.
    let name = service.hosts.first().unwrap_or(&service.name);
    line(format_args!("        proxy_ssl_name {name};"));
    match &balancer.server_ca {
        Some(ca) => {
            line(format_args!("        proxy_ssl_verify on;"));
            line(format_args!("        proxy_ssl_verify_depth 4;"));
            line(format_args!("        proxy_ssl_trusted_certificate {ca};"));
        }
        None => line(format_args!(
            "        proxy_ssl_verify off; # nobody vouches for the servers' certificates: server_ca is not set"
        )),
    }
}

/// Whoever asks for a name that nobody here has.
fn nobody(
    balancer: &Balancer,
    (port, services): (u16, &[&Service]),
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let is_tls = services.iter().any(|service| service.transport.is_tls());
    line(format_args!("\nserver {{"));
    listen(balancer, (port, is_tls, true), line);
    line(format_args!("    return 421;"));
    line(format_args!("}}"));
}

fn listen(
    balancer: &Balancer,
    (port, is_tls, is_default): (u16, bool, bool),
    line: &mut impl FnMut(std::fmt::Arguments<'_>),
) {
    let default = if is_default { " default_server" } else { "" };
    let listen = balancer.listens("", port);
    if !is_tls {
        return line(format_args!("    listen {listen}{default};"));
    }
    line(format_args!("    listen {listen} ssl{default};"));
    if let (Some(certificate), Some(key)) = (&balancer.certificate, &balancer.certificate_key) {
        line(format_args!("    ssl_certificate {certificate};"));
        line(format_args!("    ssl_certificate_key {key};"));
    }
    line(format_args!("    ssl_protocols TLSv1.2 TLSv1.3;"));
}
