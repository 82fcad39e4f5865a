//! Samples from the hours before a test, as if Prometheus had scraped them, sent by remote write.

use std::collections::BTreeMap;

use super::Prometheus;

/// The approximate maximum size of a request, in bytes.
const REQUEST: usize = 16_000_000;

/// The labels of a series, including `__name__`.
pub(crate) type Labels = BTreeMap<String, String>;

/// Writes samples of many series at the same times, which must be later than any existing sample.
/// Series with the same value share the encoded samples.
pub(crate) async fn write(
    prometheus: &Prometheus,
    series: &[(Labels, f64)],
    times: &[i64],
    value_at: impl Fn(f64, i64) -> f64,
) {
    let mut samples_of: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut request = Vec::new();
    for (labels, value) in series {
        let samples = samples_of.entry(value.to_bits()).or_insert_with(|| {
            let sample = |time: &i64| sample(value_at(*value, *time), time * 1_000);
            times.iter().flat_map(sample).collect()
        });
        let mut one: Vec<u8> = labels.iter().flat_map(|(name, value)| label(name, value)).collect();
        one.extend_from_slice(samples);
        field(&mut request, 1, &one);
        if request.len() > REQUEST {
            prometheus.remote_write(literal(&request)).await;
            request.clear();
        }
    }
    prometheus.remote_write(literal(&request)).await;
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let (mut pair, mut written) = (Vec::new(), Vec::new());
    field(&mut pair, 1, name.as_bytes());
    field(&mut pair, 2, value.as_bytes());
    field(&mut written, 1, &pair);
    written
}

fn sample(value: f64, milliseconds: i64) -> Vec<u8> {
    let (mut pair, mut written) = (vec![9], Vec::new());
    pair.extend(value.to_le_bytes());
    pair.push(16);
    varint(&mut pair, u64::try_from(milliseconds).expect("after 1970"));
    field(&mut written, 2, &pair);
    written
}

/// Appends a length-delimited protobuf field.
fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while let more @ 128.. = number {
        to.push(more.to_le_bytes()[0] | 128);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Encodes bytes as Snappy without compression: one literal.
fn literal(bytes: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(bytes.len() + 16);
    varint(&mut written, bytes.len() as u64);
    if let Some(last) = bytes.len().checked_sub(1) {
        written.push(0xfc);
        written.extend(u32::try_from(last).expect("a request is small").to_le_bytes());
        written.extend_from_slice(bytes);
    }
    written
}
