//! What it costs to plan, with tables of ten and fifty thousand real servers: onto an empty kernel, one
//! weight of all, nothing at all; and to carry the first out on the fake kernel, so that what the
//! kernel itself takes is left out. By hand: `cargo bench -p quorate-tests`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that can't go on ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_dataplane::Dataplane as _;
use quorate_dataplane::fake::FakeKernel;
use quorate_model::kernel::{
    DesiredService, DesiredServices, Destination, ObservedServices, ServiceKey, ServiceSettings,
};
use quorate_model::plan::{done, plan};
use quorate_model::spec::{Forward, Protocol, Scheduler};
use quorate_tests::scale::Shape;

fn desired(shape: Shape) -> DesiredServices {
    let settings = ServiceSettings::plain(Scheduler::named("wlc").unwrap());
    (0..shape.services)
        .map(|service| {
            let port = u16::try_from(Shape::port(service)).unwrap();
            let servers = (0..shape.servers)
                .map(|server| SocketAddr::new(shape.address(service, server).into(), port));
            let destinations: BTreeMap<SocketAddr, Destination> =
                servers.map(|at| (at, Destination::new(Forward::Dr, 1))).collect();
            let at = SocketAddr::from(([192, 168, 10, 180], port));
            (ServiceKey::at(Protocol::Tcp, at), DesiredService { settings, destinations })
        })
        .collect()
}

fn standing(desired: &DesiredServices) -> ObservedServices {
    let mut table = ObservedServices::new();
    for action in plan(desired, &ObservedServices::new(), &BTreeSet::new()) {
        done(&mut table, &action);
    }
    table
}

fn benches(criterion: &mut Criterion) {
    let empty = (ObservedServices::new(), BTreeSet::new());
    for shape in [Shape::WIDE, Shape::LARGE] {
        let wanted = desired(shape);
        let table = standing(&wanted);
        let ours: BTreeSet<ServiceKey> = wanted.keys().copied().collect();
        let mut other = wanted.clone();
        let last = other.values_mut().last().unwrap().destinations.values_mut().next().unwrap();
        last.weight += 1;
        let actions = plan(&wanted, &empty.0, &empty.1);

        let mut group = criterion.benchmark_group("reconcile");
        group.throughput(Throughput::Elements(u64::try_from(shape.real_servers()).unwrap()));
        group.sample_size(20);
        let id = |what: &str| BenchmarkId::new(what, shape);
        group.bench_function(id("plan onto an empty kernel"), |bencher| {
            bencher.iter(|| plan(black_box(&wanted), &empty.0, &empty.1));
        });
        group.bench_function(id("plan one weight"), |bencher| {
            bencher.iter(|| plan(black_box(&other), &table, &ours));
        });
        group.bench_function(id("plan nothing"), |bencher| {
            bencher.iter(|| plan(black_box(&wanted), &table, &ours));
        });
        group.bench_function(id("carry out on the fake kernel"), |bencher| {
            bencher.iter_batched_ref(
                || FakeKernel::new().dataplane(),
                |kernel| kernel.apply(black_box(&actions)),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
