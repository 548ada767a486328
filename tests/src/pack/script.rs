//! Our own start scripts for `sh`, written from the observable behaviour of the products' scripts.
//!
//! What a supervisor can notice is kept, faults included: java is a child, not the script itself; the exit status
//! is 0 however java ended; status 121 starts java again; `stop` does not wait; arguments with spaces break.

use super::product::Product;

/// The text of `bin/<name>.sh`.
pub fn start_script(product: Product, name: &str) -> String {
    let parts = [
        HEADER.to_owned(),
        LOCATE.to_owned(),
        commands(product),
        CONTROL.replace("@NAME@", name),
        if product.profiles().is_empty() { String::new() } else { OPTIMIZE.to_owned() },
        jdk_check(product),
        PREPARE.to_owned(),
        if product.exports_openssl() { OPENSSL.to_owned() } else { String::new() },
        if product.has_diagnostics() { DIAGNOSTICS.to_owned() } else { String::new() },
        if product.has_key_generator() { KEY_GENERATOR.to_owned() } else { String::new() },
        LAUNCH.to_owned(),
    ];
    parts.concat()
}

const HEADER: &str = r#"#!/bin/sh
# Start script of a stand-in pack. It behaves towards the host as the product's own script does.

"#;

/// CARBON_HOME is computed only if it is empty: an inherited one makes this script act on another pack.
const LOCATE: &str = r#"self="$0"
while [ -h "$self" ]; do
  target=$(readlink "$self")
  case "$target" in
    /*) self="$target" ;;
    *) self="$(dirname "$self")/$target" ;;
  esac
done
[ -n "$CARBON_HOME" ] || CARBON_HOME=$(cd "$(dirname "$self")/.." && pwd)

[ -n "$JAVACMD" ] || JAVACMD="${JAVA_HOME:+$JAVA_HOME/bin/}java"
# A bare command name is looked up on the path.
case "$JAVACMD" in
  */*) found="$JAVACMD" ;;
  *) found=$(command -v "$JAVACMD") ;;
esac
if [ ! -x "$found" ]; then
  echo "Error: JAVA_HOME is not defined correctly."
  echo " CARBON cannot execute $JAVACMD"
  exit 1
fi
if [ -z "$JAVA_HOME" ]; then
  echo "You must set the JAVA_HOME variable before running CARBON."
  exit 1
fi

PID=""
if [ -e "$CARBON_HOME/wso2carbon.pid" ]; then
  PID=$(tr -cd '0-9' < "$CARBON_HOME/wso2carbon.pid")
fi

"#;

/// Unquoted `$*` on purpose: the products split arguments at spaces, and callers must know.
fn commands(product: Product) -> String {
    let optimize = if product.profiles().is_empty() {
        ""
    } else {
        "    --optimize | -optimize | optimize) optimize=yes ;;\n    --skipConfigOptimization) skip=$word ;;\n"
    };
    format!(
        r#"command=""
port=""
args=""
optimize=""
skip=""
for word in $*; do
  case "$word" in
    --debug | -debug | debug) command=debug ;;
    --stop | -stop | stop) command=stop ;;
    --start | -start | start) command=start ;;
    --restart | -restart | restart) command=restart ;;
    --version | -version | version) command=version ;;
    --test | -test | test) command=test ;;
{optimize}    *)
      if [ "$command" = debug ] && [ -z "$port" ]; then
        port=$word
      else
        args="$args $word"
      fi
      ;;
  esac
done

"#
    )
}

/// `start` tells nothing of what becomes of it; `restart` waits for ever and forgets the first start's arguments.
const CONTROL: &str = r#"launch_behind() {
  export CARBON_HOME
  nohup sh "$CARBON_HOME/bin/@NAME@.sh" $args > /dev/null 2>&1 &
}

case "$command" in
  debug)
    if [ -z "$port" ]; then
      echo " Please specify the debug port after the --debug option"
      exit 1
    fi
    if [ -n "$JAVA_OPTS" ]; then
      echo "Warning !!!. User specified JAVA_OPTS will be ignored, once you give the --debug option."
    fi
    JAVA_OPTS="-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=*:$port"
    echo "Please start the remote debugging client to continue..."
    ;;
  start)
    if [ -n "$PID" ] && ps -p "$PID" > /dev/null 2>&1; then
      echo "Process is already running"
      exit 0
    fi
    launch_behind
    exit 0
    ;;
  stop)
    kill -TERM "$PID"
    exit 0
    ;;
  restart)
    kill -TERM "$PID"
    while ps -p "$PID" > /dev/null 2>&1; do
      sleep 1
    done
    launch_behind
    exit 0
    ;;
  test) JAVACMD="exec $JAVACMD" ;;
  version)
    cat "$CARBON_HOME/bin/version.txt"
    cat "$CARBON_HOME/bin/wso2carbon-version.txt"
    exit 0
    ;;
esac

"#;

const OPTIMIZE: &str = r#"if [ -n "$optimize" ]; then
  sh "$CARBON_HOME/bin/profileSetup.sh" $args $skip
fi

"#;

fn jdk_check(product: Product) -> String {
    let rule = product.jdk_rule();
    let outcome = if rule.fatal {
        "  exit 1".to_owned()
    } else {
        "  echo \" Starting WSO2 Carbon (in unsupported JDK)\"".to_owned()
    };
    format!(
        r#"jdk=$($JAVACMD -version 2>&1 | sed -n 's/.*version "\([0-9._]*\).*/\1/p')
case "$jdk" in
  1.*) jdk=${{jdk#1.}} ;;
esac
jdk=${{jdk%%.*}}
if [ "${{jdk:-0}}" -lt {low} ] || [ "${{jdk:-0}}" -gt {high} ]; then
{outcome_text}
{outcome}
fi

"#,
        low = rule.low,
        high = rule.high,
        outcome_text = format_args!("  echo \"{}\"", rule.text),
    )
}

/// The wipe of `tmp` also strikes a server that already runs from this home.
const PREPARE: &str = r#"cd "$CARBON_HOME" || exit 1
rm -rf tmp/*

XBOOT=""
for jar in "$CARBON_HOME"/lib/xboot/*.jar; do
  XBOOT="$XBOOT:$jar"
done
CLASSES="$JAVA_HOME/lib/tools.jar"
for jar in "$CARBON_HOME"/bin/*.jar "$CARBON_HOME"/lib/commons-lang*.jar; do
  CLASSES="$CLASSES:$jar"
done

[ -n "$JVM_MEM_OPTS" ] || JVM_MEM_OPTS="-Xms256m -Xmx1024m"
echo "JAVA_HOME environment variable is set to $JAVA_HOME"
echo "CARBON_HOME environment variable is set to $CARBON_HOME"
echo "Using Java memory options: $JVM_MEM_OPTS"

"#;

const OPENSSL: &str = r#"if [ -f "$CARBON_HOME/repository/resources/conf/templates/repository/conf/tomcat/openssl.cnf.j2" ]; then
  OPENSSL_CONF="$CARBON_HOME/repository/conf/tomcat/openssl.cnf"
  export OPENSSL_CONF
fi

"#;

/// A second JVM. Under dash the trap does not run when a signal ends the script, so it can be orphaned too.
const DIAGNOSTICS: &str = r#"DIAGNOSTICS_PID=""
cleanup() {
  [ -z "$DIAGNOSTICS_PID" ] || kill "$DIAGNOSTICS_PID" 2> /dev/null
}
if [ -f "$CARBON_HOME/diagnostics-tool/bin/diagnostics.sh" ]; then
  sh "$CARBON_HOME/diagnostics-tool/bin/diagnostics.sh" &
  DIAGNOSTICS_PID=$!
  trap 'cleanup' EXIT INT
fi

"#;

const KEY_GENERATOR: &str = r#"$JAVACMD -cp "$CARBON_HOME/bin/*" \
  org.wso2.carbon.apimgt.encryption.key.generator.EncryptionKeyGenerator "$CARBON_HOME/repository/conf"

"#;

/// The assignment is the loop's last command: it gives the script status 0 whatever java's was.
const LAUNCH: &str = r#"status=121
while [ "$status" = "121" ]; do
  $JAVACMD \
    -Xbootclasspath/a:"$XBOOT" \
    $JVM_MEM_OPTS \
    -XX:+HeapDumpOnOutOfMemoryError \
    -XX:HeapDumpPath="$CARBON_HOME/repository/logs/heap-dump.hprof" \
    $JAVA_OPTS \
    -Dcom.sun.management.jmxremote \
    -classpath "$CLASSES" \
    -Djava.io.tmpdir="$CARBON_HOME/tmp" \
    -Dcatalina.base="$CARBON_HOME/lib/tomcat" \
    -Dwso2.server.standalone=true \
    -Dcarbon.registry.root=/ \
    -Dcarbon.home="$CARBON_HOME" \
    -Dcarbon.config.dir.path="$CARBON_HOME/repository/conf" \
    -Dcarbon.new.config.dir.path="$CARBON_HOME/repository/resources/conf" \
    -Dfile.encoding=UTF8 \
    org.wso2.carbon.bootstrap.Bootstrap $*
  status=$?
done
"#;

/// The text of `diagnostics-tool/bin/diagnostics.sh`.
pub const DIAGNOSTICS_SCRIPT: &str = r#"#!/bin/sh
# Starts the diagnostics tool of a stand-in pack: a second JVM with the server's JAVA_OPTS.
home=$(cd "$(dirname "$0")/.." && pwd)
cd "$home" || exit 1
exec "$JAVA_HOME/bin/java" -Xms128m -Xmx256m $JAVA_OPTS -Dapp.home="$home" -classpath "$home/lib/*" \
  org.wso2.diagnostics.Diagnostics
"#;

/// The text of `bin/profileSetup.sh`.
pub fn profile_setup(product: Product) -> String {
    let known = product.profiles().join(" | ");
    format!(
        r#"#!/bin/sh
# Turns a stand-in pack into one profile, for good: deployment.toml is replaced by the profile's own.
[ -n "$CARBON_HOME" ] || CARBON_HOME=$(cd "$(dirname "$0")/.." && pwd)
profile=""
skip=""
for word in $*; do
  case "$word" in
    -Dprofile=*) profile=${{word#-Dprofile=}} ;;
    --skipConfigOptimization | -skipConfigOptimization | skipConfigOptimization) skip=yes ;;
  esac
done
case "$profile" in
  {known}) ;;
  *)
    echo "Invalid profile: $profile"
    exit 1
    ;;
esac
echo "Starting to optimize API Manager for the profile $profile"
if [ -z "$skip" ]; then
  conf="$CARBON_HOME/repository/conf"
  mv "$conf/deployment.toml" "$conf/deployment.toml.backup"
  cp "$CARBON_HOME/repository/resources/conf/deployment-templates/$profile.toml" "$conf/deployment.toml"
fi
"#
    )
}
