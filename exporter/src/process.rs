//! The metrics that every exporter has of its own process, by the names that they have everywhere.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::Gauge},
    registry::{Registry, Unit},
};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Adds memory, CPU time and start of this process; nothing where the system does not say.
pub fn of_this_process(registry: &mut Registry) {
    let Ok(pid) = sysinfo::get_current_pid() else { return };
    let Ok(mut system) = System::new() else { return };
    let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    let Some(process) = system.process(pid) else { return };
    let memory = Gauge::<i64>::default();
    memory.set(i64::try_from(process.memory()).unwrap_or(i64::MAX));
    registry.register("process_resident_memory_bytes", "Resident memory", memory);
    let cpu = ConstCounter::new(process.accumulated_cpu_time() as f64 / 1000.0);
    registry.register_with_unit("process_cpu", "User and system time", Unit::Seconds, cpu);
    let begun = Gauge::<f64, AtomicU64>::default();
    begun.set(process.start_time() as f64);
    registry.register_with_unit("process_start_time", "When the process began", Unit::Seconds, begun);
}
