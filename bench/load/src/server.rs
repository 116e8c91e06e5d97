//! What the kernel knows about the server's processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use crate::Result;

/// The processes of one server.
pub struct Server {
    pids: Vec<u32>,
}

impl Server {
    pub fn new(pids: &[u32]) -> Self {
        Self { pids: pids.to_vec() }
    }

    /// How long each thread has been on a CPU.
    ///
    /// The kernel brings a thread's figure up to date when the thread leaves the CPU, and at each timer tick while it
    /// runs (1 to 10 ms). We read when everything is answered, so the threads sleep, and the figure is exact; for one
    /// that spins instead of sleeping it is at most a tick old at either end, which a window of 0.5 s and more makes
    /// negligible: the two errors are alike, and their difference is below 1 %.
    ///
    /// What the kernel does for a loopback socket is in it too, on the sender's account: a `send` of the server
    /// includes the delivery into our socket, and ours the delivery into the server's.
    pub fn cpu(&self) -> Result<Cpu> {
        let (mut threads, mut user, mut kernel) = (BTreeMap::new(), 0, 0);
        for pid in &self.pids {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| self.lost(*pid, &error))?;
            let (in_user_space, in_kernel) = ticks(&line).ok_or_else(|| format!("/proc/{pid}/stat says '{line}'"))?;
            user += in_user_space;
            kernel += in_kernel;
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| self.lost(*pid, &error))?;
            for task in tasks.flatten() {
                // A thread may end between the two looks.
                let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let nanoseconds = line.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
                threads.insert(task.file_name(), nanoseconds);
            }
        }
        Ok(Cpu { threads, user, kernel })
    }

    /// Bytes of memory that the processes have written and hold: `Pss_Anon` and `Pss_Shmem`.
    ///
    /// Resident pages of files are left out: program text is read in while the first connections come, but it does
    /// not grow with them, and its share (`Pss`, `Private_*`) changes when some other program maps the same library.
    /// Proportional, so that pages that forked workers have in common count once.
    pub fn written_bytes(&self) -> Result<u64> {
        self.sum("smaps_rollup", &["Pss_Anon:", "Pss_Shmem:"])
    }

    /// The most bytes that were resident ever, files included.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.sum("status", &["VmHWM:"])
    }

    /// The sum of some fields in kB of a file of each process, in bytes.
    fn sum(&self, file: &str, fields: &[&str]) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| self.lost(*pid, &error))?;
            for line in text.lines() {
                if let Some((name, rest)) = line.split_once(char::is_whitespace)
                    && fields.contains(&name)
                {
                    let kilobytes = rest.trim().trim_end_matches(" kB").parse::<u64>();
                    sum += kilobytes.map_err(|_| format!("/proc/{pid}/{file} says '{line}'"))? * 1024;
                }
            }
        }
        Ok(sum)
    }

    fn lost(&self, pid: u32, error: &std::io::Error) -> String {
        format!("the server's process {pid} cannot be looked at: {error}")
    }
}

/// How often the clock found a process in user space and in the kernel, from the line of its `stat`. Its name, in
/// parentheses, may hold anything; of what follows they are the twelfth and the thirteenth.
fn ticks(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    Some((next()?, next()?))
}

/// CPU time of some processes.
pub struct Cpu {
    /// Nanoseconds by thread.
    threads: BTreeMap<OsString, u64>,
    /// Ticks of 10 ms in user space, and in the kernel.
    user: u64,
    kernel: u64,
}

impl Cpu {
    /// What each thread that ran has added since `before`, the most first.
    pub fn since(&self, before: &Self) -> Vec<u64> {
        let added =
            |(thread, now): (&OsString, &u64)| now.saturating_sub(before.threads.get(thread).copied().unwrap_or(0));
        let mut added: Vec<u64> = self.threads.iter().map(added).filter(|nanoseconds| *nanoseconds > 0).collect();
        added.sort_unstable_by(|one, other| other.cmp(one));
        added
    }

    /// How much of what was added since `before` was in user space; none where the clock has not ticked.
    ///
    /// The kernel looks at each tick where a process is: good for a mean over several runs, rough for a single one.
    pub fn user_share_since(&self, before: &Self) -> Option<f64> {
        let (user, kernel) = (self.user.saturating_sub(before.user), self.kernel.saturating_sub(before.kernel));
        (user + kernel > 0).then(|| user as f64 / (user + kernel) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_used_cpu_and_memory() {
        let own = Server::new(&[std::process::id()]);
        let before = own.written_bytes().unwrap();
        // So much that what other tests hold meanwhile hardly counts.
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let grown = own.written_bytes().unwrap() - before;
        assert!((60 << 20..68 << 20).contains(&grown), "{grown}");
        assert!(own.peak_bytes().unwrap() > block.len() as u64);
        std::thread::sleep(std::time::Duration::from_millis(1));
        let nothing = Cpu { threads: BTreeMap::new(), user: 0, kernel: 0 };
        assert!(own.cpu().unwrap().since(&nothing)[0] > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let nobody = Server::new(&[u32::MAX]);
        assert!(nobody.cpu().is_err_and(|error| error.contains("4294967295")));
        assert!(nobody.peak_bytes().is_err());
    }

    #[test]
    fn threads_that_ran_are_told_apart_and_those_that_slept_are_left_out() {
        let cpu = |figures: &[(&str, u64)]| {
            let threads = figures.iter().map(|(name, time)| (OsString::from(name), *time)).collect();
            Cpu { threads, user: 0, kernel: 0 }
        };
        let before = cpu(&[("1", 50), ("2", 70), ("4", 9)]);
        assert_eq!(cpu(&[("1", 60), ("2", 70), ("3", 25)]).since(&before), [25, 10]);
    }

    #[test]
    fn user_space_and_kernel_are_told_apart_whatever_the_process_is_called() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 92 0 0 0 30 90 0 0 20 0 1 0 12";
        assert_eq!(ticks(line), Some((30, 90)));
        assert_eq!(ticks("7 (a) S 1"), None);
        let cpu = |user, kernel| Cpu { threads: BTreeMap::new(), user, kernel };
        assert_eq!(cpu(30, 90).user_share_since(&cpu(20, 60)), Some(0.25));
        assert_eq!(cpu(30, 90).user_share_since(&cpu(30, 90)), None);
    }
}
