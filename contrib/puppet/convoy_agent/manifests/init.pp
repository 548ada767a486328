# @summary Installs the agent of Convoy beside a WSO2 server and lets it join its coordinator.
#
# There is no `notify` to the service: the package restarts the agent once, when it is upgraded.
#
# @param token_file
#   A file on the host, mode 0600, with a token of `convoy token create --node NODE`. Only a host that has not joined
#   reads it. Remove it afterwards; a token can be used once.
# @param package
#   The name of the package in the host's repositories.
# @param source
#   The path of a .deb or .rpm on the host, in place of a repository.
# @param ensure
#   Of the package: a version, `installed` or `latest`.
# @param home
#   CARBON_HOME, where set-up should not look for it itself.
# @param java_home
#   JAVA_HOME, likewise.
class convoy_agent (
  Optional[Pattern[/\A\//]] $token_file = undef,
  String[1] $package = 'convoy-agent',
  Optional[Pattern[/\A\//]] $source = undef,
  String[1] $ensure = 'installed',
  Optional[Pattern[/\A\//]] $home = undef,
  Optional[Pattern[/\A\//]] $java_home = undef,
) {
  $provider = $source ? {
    /\.deb$/ => 'dpkg',
    /\.rpm$/ => 'rpm',
    default  => undef,
  }

  package { $package:
    ensure   => $ensure,
    source   => $source,
    provider => $provider,
  }

  $options = [
    $token_file ? { undef => [], default => ['--token-file', $token_file] },
    $home ? { undef => [], default => ['--home', $home] },
    $java_home ? { undef => [], default => ['--java-home', $java_home] },
  ].flatten

  # `--dry-run --json` says whether anything is to be done; a host that has joined needs no token for either.
  exec { 'set up the agent of Convoy':
    command => ['/usr/bin/convoy-agent', 'setup'] + $options,
    unless  => '/usr/bin/convoy-agent setup --dry-run --json | /bin/grep --quiet \'"changes":false\'',
    require => Package[$package],
  }
}
