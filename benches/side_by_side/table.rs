//! The figures of all rounds as a table: medians, and the median of each round's ratio.

use std::thread;

use crate::side_by_side::meter::Sample;
use crate::side_by_side::rounds::Round;

pub(crate) struct Report {
    processes: Vec<String>,
    rounds: Vec<Round<Sample>>,
}

impl Report {
    /// `processes`: the names of those whose CPU time was taken too.
    pub(crate) fn new(processes: Vec<String>, rounds: Vec<Round<Sample>>) -> Self {
        Self { processes, rounds }
    }

    /// `title`: what was done, with what, where; `raw`: what the crate is compared with.
    pub(crate) fn print(&self, title: &str, raw_name: &str) {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        println!("\n{title}, {} rounds, {cores} cores", self.rounds.len());
        println!("median (min to max); one thread each; `us` is CPU time per message\n");
        let raw: Vec<&Sample> = self.rounds.iter().filter_map(|round| round.raw.as_ref()).collect();
        let ours: Vec<&Sample> = self.rounds.iter().filter_map(|round| round.ours.as_ref()).collect();
        let mut rows = vec![self.header()];
        if !raw.is_empty() {
            rows.push(self.row(raw_name, &raw));
        }
        if !ours.is_empty() {
            rows.push(self.row("rocketmq-stream", &ours));
        }
        if !raw.is_empty() && !ours.is_empty() {
            rows.push(self.ratios());
        }
        print_aligned(&rows);
    }

    fn header(&self) -> Vec<String> {
        let mut cells = vec!["".into(), "msg/s".into(), "client us".into()];
        cells.extend(self.processes.iter().map(|name| format!("{name} us")));
        cells.extend(["peak RSS MB".into(), "cores busy elsewhere".into()]);
        cells
    }

    fn row(&self, name: &str, samples: &[&Sample]) -> Vec<String> {
        let over = |get: &dyn Fn(&Sample) -> Option<f64>, digits| {
            spread(&samples.iter().filter_map(|sample| get(sample)).collect::<Vec<_>>(), digits)
        };
        let mut cells = vec![name.into(), over(&|sample| Some(sample.rate()), 0), over(&client, 2)];
        cells.extend((0..self.processes.len()).map(|k| over(&|sample| process(sample, k), 1)));
        cells.push(over(&|sample| Some(sample.memory_kib? as f64 / 1024.0), 1));
        cells.push(over(&Sample::foreign_cores, 2));
        cells
    }

    /// Each round's own ratio: what disturbs a round disturbs both its halves.
    fn ratios(&self) -> Vec<String> {
        let over = |get: &dyn Fn(&Sample) -> Option<f64>| {
            let pairs = self.rounds.iter().filter_map(|round| Some((round.raw.as_ref()?, round.ours.as_ref()?)));
            spread(&pairs.filter_map(|(raw, ours)| Some(get(ours)? / get(raw)?)).collect::<Vec<_>>(), 2)
        };
        let mut cells = vec!["ratio, round by round".into(), over(&|sample| Some(sample.rate())), over(&client)];
        cells.extend((0..self.processes.len()).map(|k| over(&|sample| process(sample, k))));
        cells
    }
}

fn client(sample: &Sample) -> Option<f64> {
    sample.micros(sample.own)
}

fn process(sample: &Sample, index: usize) -> Option<f64> {
    sample.micros(*sample.others.get(index)?)
}

pub(crate) fn one_line(sample: &Sample) -> String {
    let micros = client(sample).map_or_else(|| "unknown".into(), |us| format!("{us:.2} us"));
    format!("{:.0} msg/s, client {micros} per message", sample.rate())
}

/// Median, least and greatest.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return "unknown".into() };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    format!("{median:.digits$} ({first:.digits$} to {last:.digits$})")
}

pub(crate) fn print_aligned(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
