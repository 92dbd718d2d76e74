"""Exchange and sex gate compute the papers' equations."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from baa.nets.fusion import Exchange, SexGate
from baa.patient import Sex


@pytest.fixture
def streams():
    return [torch.randn(6, 5), torch.randn(6, 7)]


def projected(exchange, streams):
    return [n(p(s)) for n, p, s in zip(exchange.norms, exchange.project, streams, strict=True)]


@pytest.mark.parametrize("e", [0.0, 0.3, 1.0])
def test_whole_exchange_mixes_by_e(streams, e):
    exchange = Exchange([5, 7], 8, exchange=e).eval()
    carpal, hand = projected(exchange, streams)

    mixed = exchange(exchange.projected(streams))
    assert_close(mixed[0], ((1 - e) * carpal + e * hand).relu())
    assert_close(mixed[1], ((1 - e) * hand + e * carpal).relu())


def test_channel_exchange_replaces_empty_channels_that_the_stream_owns(streams):
    exchange = Exchange([5, 7], 8, mode="channel").eval()
    with torch.no_grad():
        for norm in exchange.norms:
            norm.weight.fill_(1.0)
        exchange.norms[0].weight[1] = 1e-4  # its own: channels 0 to 3
        exchange.norms[0].weight[6] = 1e-4  # the other's
    carpal, hand = projected(exchange, streams)

    mixed = exchange(exchange.projected(streams))
    assert_close(mixed[0, :, 1], hand[:, 1].relu())
    assert_close(mixed[0, :, 6], carpal[:, 6].relu())
    assert_close(mixed[1], hand.relu())


def test_norms_that_are_synchronised_over_gpus_have_scales_too():
    exchange = Exchange([5, 7], 8, mode="channel")
    with torch.no_grad():
        exchange.norms[0].weight[1] = 1e-4
    before = exchange.empty()
    assert before.sum() == 1
    assert torch.equal(nn.SyncBatchNorm.convert_sync_batchnorm(exchange).empty(), before)


def test_sparsity_counts_only_what_each_stream_owns():
    exchange = Exchange([5, 7], 8, mode="channel")
    with torch.no_grad():
        exchange.norms[0].weight.copy_(torch.tensor([1.0, -2, 3, 4, 100, 100, 100, 100]))
        exchange.norms[1].weight.copy_(torch.tensor([100.0, 100, 100, 100, 5, 6, 7, 8]))

    assert exchange.sparsity().item() == 36


def test_one_stream_has_nobody_to_exchange_with(streams):
    exchange = Exchange([5], 8, exchange=1.0).eval()
    assert_close(exchange(exchange.projected(streams[:1]))[0], projected(exchange, streams[:1])[0].relu())


def test_a_learnt_exchange_has_a_gradient_and_a_fixed_one_has_not(streams):
    learnt = Exchange([5, 7], 8, exchange=0.3, learnt=True)
    learnt(learnt.projected(streams)).square().sum().backward()

    assert learnt.weight.grad.abs() > 0
    assert not Exchange([5, 7], 8, exchange=0.5).weight.requires_grad


def test_a_learnt_exchange_that_a_step_took_past_the_edge_comes_back(streams):
    exchange = Exchange([5, 7], 8, learnt=True)
    with torch.no_grad():
        exchange.weight.fill_(1.2)
    exchange(exchange.projected(streams)).square().sum().backward()

    assert exchange.weight == 1
    assert exchange.weight.grad.abs() > 0


def test_of_two_streams_the_papers_exchange_is_concatenation_in_another_order(streams):
    exchanged, apart = Exchange([5, 7], 8, exchange=1.0), Exchange([5, 7], 8, exchange=0.0)
    apart.load_state_dict(exchanged.state_dict() | {"weight": apart.weight})
    assert_close(exchanged(exchanged.projected(streams)), apart(apart.projected(streams)).flip(0))


def test_sex_gate_is_equation_3():
    gate = SexGate(4, alpha_image=2.0, alpha_sex=0.5)
    image = torch.randn(3, 4)
    sex = torch.tensor([Sex.FEMALE, Sex.MALE, Sex.UNKNOWN])

    encoded = [*gate.known.weight, gate.known.weight.mean(dim=0)]
    for row, (features, code) in enumerate(zip(image, sex, strict=True)):
        assert_close(gate(image, sex)[row], 2.0 * features + 0.5 * encoded[code])


def test_unknown_sex_is_a_state_of_its_own_and_learns_only_of_cases_without_one():
    gate = SexGate(4)
    sexes = torch.tensor([Sex.FEMALE, Sex.MALE, Sex.UNKNOWN])
    assert len(torch.unique(gate(torch.zeros(3, 4), sexes), dim=0)) == 3

    gate(torch.zeros(2, 4), sexes[:2]).sum().backward()
    assert gate.unknown.grad.abs().sum() == 0
    gate(torch.zeros(3, 4), sexes).sum().backward()
    assert (gate.unknown.grad > 0).all()


def test_trained_on_known_sexes_alone_the_age_of_an_unknown_one_lies_between_theirs():
    gate, head = SexGate(64), nn.Linear(64, 1)
    image, sex = torch.randn(200, 64), torch.arange(200) % 2
    months = 5.0 * sex[:, None] + image[:, :1]
    steps = torch.optim.Adam([*gate.parameters(), *head.parameters()], lr=0.01)
    for _ in range(50):
        steps.zero_grad()
        (head(gate(image, sex)) - months).square().mean().backward()
        steps.step()

    girl, boy, unknown = head(gate(torch.zeros(3, 64), torch.tensor([Sex.FEMALE, Sex.MALE, Sex.UNKNOWN])))[:, 0]
    assert boy - girl > 1
    assert_close(unknown, (girl + boy) / 2)
