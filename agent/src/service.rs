//! The agent as a Windows service: asked to start and stop by the service control manager. A stop ends the agent and
//! leaves the server as it is, as everywhere.

use std::{
    ffi::OsString,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use windows_service::{
    define_windows_service,
    service::{
        ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
        ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo,
        ServiceStartType, ServiceState, ServiceStatus, ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
    service_manager::{ServiceManager, ServiceManagerAccess},
};

use crate::config::Config;

/// The service's name.
pub const NAME: &str = "convoy-agent";
/// An agent that crashed is started again after this; its server did not notice.
const RESTART_DELAY: Duration = Duration::from_secs(5);
/// Crashes are forgotten after this.
const CRASHES_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long the manager waits for the next word before it calls the start hung.
const START_TIME: Duration = Duration::from_secs(30);

/// What the manager's thread runs with; the manager hands it no values of ours.
static CONFIG: Mutex<Option<Config>> = Mutex::new(None);

/// Why the service is not what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the service {NAME}")]
pub struct ServiceError {
    what: &'static str,
    source: windows_service::Error,
}

fn failed(what: &'static str) -> impl FnOnce(windows_service::Error) -> ServiceError {
    move |source| ServiceError { what, source }
}

/// Registers this program, started with the machine and again after a crash. Needs an administrator.
///
/// # Errors
/// The manager refuses: no rights, or a service of that name is there.
pub fn install(config: &Path) -> Result<(), ServiceError> {
    let program = std::env::current_exe()
        .map_err(|error| failed("find the program of")(windows_service::Error::Winapi(error)))?;
    let info = ServiceInfo {
        name: NAME.into(),
        display_name: "Convoy agent".into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: vec!["--config".into(), config.into(), "service".into(), "run".into()],
        dependencies: Vec::new(),
        account_name: None,
        account_password: None,
    };
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access).map_err(failed("install"))?;
    // Starting is part of the rights: the manager wants it of whoever orders restarts.
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let service = manager.create_service(&info, access).map_err(failed("install"))?;
    let restart = ServiceAction { action_type: ServiceActionType::Restart, delay: RESTART_DELAY };
    let actions = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(CRASHES_KEPT),
        reboot_msg: None,
        command: None,
        actions: Some(vec![restart.clone(), restart.clone(), restart]),
    };
    service.update_failure_actions(actions).map_err(failed("set the restarts of"))
}

/// Takes the registration back; a running agent is asked to stop first. The server goes on.
///
/// # Errors
/// The manager refuses: no rights, or there is no such service.
pub fn uninstall() -> Result<(), ServiceError> {
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(failed("uninstall"))?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = manager.open_service(NAME, access).map_err(failed("uninstall"))?;
    let status = service.query_status().map_err(failed("ask after"))?;
    if status.current_state != ServiceState::Stopped {
        service.stop().map(drop).map_err(failed("stop"))?;
    }
    service.delete().map_err(failed("uninstall"))
}

/// Runs as the service; returns once the manager has stopped it.
///
/// # Errors
/// This process was not started by the service control manager.
pub fn run(config: Config) -> Result<(), ServiceError> {
    *CONFIG.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    service_dispatcher::start(NAME, ffi_service_main).map_err(failed("run (it is for the manager to run)"))
}

define_windows_service!(ffi_service_main, service_main);

fn service_main(_arguments: Vec<OsString>) {
    let Some(config) = CONFIG.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let answer = move |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            asked.cancel();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    let status = match service_control_handler::register(NAME, answer) {
        Ok(status) => status,
        Err(error) => return tracing::error!(%error, "The service control manager does not listen"),
    };
    tell(status, ServiceState::StartPending, 0);
    let ended = serve(config, stop, status);
    if let Err(why) = &ended {
        tracing::error!(why, "The agent ends");
    }
    tell(status, ServiceState::Stopped, u32::from(ended.is_err()));
}

fn serve(config: Config, stop: CancellationToken, status: ServiceStatusHandle) -> Result<(), String> {
    let runtime = crate::runtime().map_err(|error| format!("cannot start: {error}"))?;
    tell(status, ServiceState::Running, 0);
    let ended = runtime.block_on(crate::run(config, crate::editors::Sight::none(), stop.cancelled_owned()));
    // Threads that wait for the server's end would keep the process.
    runtime.shutdown_timeout(crate::SHUTDOWN_TIME);
    ended.map_err(|error| crate::chain(&error))
}

fn tell(manager: ServiceStatusHandle, state: ServiceState, exit: u32) {
    let is_running = state == ServiceState::Running;
    let told = manager.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: if is_running {
            ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN
        } else {
            ServiceControlAccept::empty()
        },
        exit_code: if exit == 0 { ServiceExitCode::NO_ERROR } else { ServiceExitCode::ServiceSpecific(exit) },
        checkpoint: 0,
        wait_hint: if state == ServiceState::StartPending { START_TIME } else { Duration::ZERO },
        process_id: None,
    });
    if let Err(error) = told {
        tracing::error!(%error, "Cannot tell the service control manager");
    }
}
