//! Our own start scripts for Windows, from the described behaviour of the products' `.bat` files.
//!
//! What differs from the `.sh` differs for the operator too: `start` and `stop` start a second foreground server,
//! JVM_MEM_OPTS is ignored, and a missing JAVA_HOME is no error to the caller.

use super::product::Product;

/// The text of a start script, with the line ends that cmd.exe wants.
pub fn start_script(product: Product) -> String {
    let wipe = if checks_tmp(product) { WIPE_IF_THERE } else { WIPE };
    let generator = if product.has_key_generator() { KEY_GENERATOR } else { "" };
    let optimize = if product.profiles().is_empty() { "" } else { OPTIMIZE };
    BATCH
        .replace("@WIPE@\n", wipe)
        .replace("@GENERATOR@\n", generator)
        .replace("@OPTIMIZE@\n", optimize)
        .replace('\n', "\r\n")
}

/// The text of `bin/profileSetup.bat`. cmd.exe splits words at `=`, so the profile is the word after `-Dprofile`.
pub fn profile_setup(product: Product) -> String {
    PROFILE_SETUP.replace("@PROFILES@", &product.profiles().join(" ")).replace('\n', "\r\n")
}

/// Kernels from 4.10 look before they enter the directory; the others delete wherever they are.
fn checks_tmp(product: Product) -> bool {
    !product.is_apim() && (7, 0) <= product.version
}

const WIPE: &str = "cd %CARBON_HOME%\\tmp\ndel *.* /s /q > nul 2>&1\ncd %CARBON_HOME%\n";
const WIPE_IF_THERE: &str =
    "if exist \"%CARBON_HOME%\\tmp\" del \"%CARBON_HOME%\\tmp\\*.*\" /s /q > nul 2>&1\ncd %CARBON_HOME%\n";
const OPTIMIZE: &str = "if \"%~1\"==\"--optimize\" call \"%CARBON_HOME%\\bin\\profileSetup.bat\" %*\n";
const KEY_GENERATOR: &str = "\"%JAVA_HOME%\\bin\\java\" -cp \"%CARBON_HOME%\\bin\\*\" \
     org.wso2.carbon.apimgt.encryption.key.generator.EncryptionKeyGenerator \"%CARBON_HOME%\\repository\\conf\"\n";

const PROFILE_SETUP: &str = r#"@echo off
rem Turns a stand-in pack into one profile, for good: deployment.toml is replaced by the profile's own.
if "%CARBON_HOME%"=="" set CARBON_HOME=%~dp0..
set PROFILE=
set SKIP=
:nextWord
if "%~1"=="" goto check
if "%~1"=="-Dprofile" set PROFILE=%~2
if "%~1"=="--skipConfigOptimization" set SKIP=yes
shift
goto nextWord

:check
for %%p in (@PROFILES@) do if "%%p"=="%PROFILE%" goto optimize
echo Invalid profile: %PROFILE%
exit /b 1

:optimize
echo Starting to optimize API Manager for the profile %PROFILE%
if not "%SKIP%"=="" goto end
set CONF=%CARBON_HOME%\repository\conf
move /y "%CONF%\deployment.toml" "%CONF%\deployment.toml.backup" > nul
copy /y "%CARBON_HOME%\repository\resources\conf\deployment-templates\%PROFILE%.toml" "%CONF%\deployment.toml" > nul
:end
"#;

const BATCH: &str = r#"@echo off
rem Start script of a stand-in pack. It behaves towards the host as the product's own script does.
if "%JAVA_HOME%"=="" goto noJavaHome
if not exist "%JAVA_HOME%\bin\java.exe" goto noJavaHome
if "%CARBON_HOME%"=="" set CARBON_HOME=%~dp0..
if not exist "%CARBON_HOME%\bin\version.txt" goto noServerHome

set PORT=
if "%~1"=="debug" goto debug
if "%~1"=="-debug" goto debug
if "%~1"=="--debug" goto debug
if "%~1"=="version" goto version
if "%~1"=="-version" goto version
if "%~1"=="--version" goto version
@OPTIMIZE@
rem Every other word, start and stop included, runs the server in this window.
goto run

:debug
if "%~2"=="" goto noDebugPort
if not "%JAVA_OPTS%"=="" echo Warning !!!. User specified JAVA_OPTS will be ignored, once you give the --debug option.
set JAVA_OPTS=-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=*:%~2
echo Please start the remote debugging client to continue...
goto run

:version
type "%CARBON_HOME%\bin\version.txt"
type "%CARBON_HOME%\bin\wso2carbon-version.txt"
goto end

:run
@WIPE@
echo JAVA_HOME environment variable is set to %JAVA_HOME%
echo CARBON_HOME environment variable is set to %CARBON_HOME%

:runJava
@GENERATOR@
"%JAVA_HOME%\bin\java" -Xbootclasspath/a:"%CARBON_HOME%\lib\xboot\*" -Xms256m -Xmx1024m -XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath="%CARBON_HOME%\repository\logs\heap-dump.hprof" %JAVA_OPTS% -Dcom.sun.management.jmxremote -classpath "%CARBON_HOME%\bin\*" -Djava.io.tmpdir="%CARBON_HOME%\tmp" -Dcatalina.base="%CARBON_HOME%\lib\tomcat" -Dwso2.server.standalone=true -Dcarbon.registry.root=/ -Dcarbon.home="%CARBON_HOME%" -Dcarbon.config.dir.path="%CARBON_HOME%\repository\conf" -Dfile.encoding=UTF8 org.wso2.carbon.bootstrap.Bootstrap RUN %*
if "%ERRORLEVEL%"=="121" goto runJava
goto end

:noJavaHome
echo You must set the JAVA_HOME variable before running CARBON.
goto end

:noServerHome
echo CARBON_HOME is set incorrectly or CARBON could not be located. Please set CARBON_HOME.
goto end

:noDebugPort
echo Please specify the debug port after the --debug option

:end
"#;
