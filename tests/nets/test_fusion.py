"""Exchange and sex gate compute the equations of the papers; fusion joins them with stream weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from baa.nets.fusion import Exchange, Fusion, SexGate
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


def test_synchronized_batch_norms_have_the_same_empty_channels():
    exchange = Exchange([5, 7], 8, mode="channel")
    with torch.no_grad():
        exchange.norms[0].weight[1] = 1e-4
    before = exchange.empty()
    assert before.sum() == 1
    assert torch.equal(nn.SyncBatchNorm.convert_sync_batchnorm(exchange).empty(), before)


def test_sparsity_is_the_sum_of_the_scales_that_each_stream_owns():
    exchange = Exchange([5, 7], 8, mode="channel")
    with torch.no_grad():
        exchange.norms[0].weight.copy_(torch.tensor([1.0, -2, 3, 4, 100, 100, 100, 100]))
        exchange.norms[1].weight.copy_(torch.tensor([100.0, 100, 100, 100, 5, 6, 7, 8]))

    assert exchange.sparsity().item() == 36


def test_a_single_stream_is_only_projected(streams):
    exchange = Exchange([5], 8, exchange=1.0).eval()
    assert_close(exchange(exchange.projected(streams[:1]))[0], projected(exchange, streams[:1])[0].relu())


def test_only_a_learned_exchange_has_a_gradient(streams):
    learned = Exchange([5, 7], 8, exchange=0.3, learned=True)
    learned(learned.projected(streams)).square().sum().backward()

    assert learned.weight.grad.abs() > 0
    assert not Exchange([5, 7], 8, exchange=0.5).weight.requires_grad


def test_a_learned_exchange_beyond_1_is_set_back_to_1_and_keeps_its_gradient(streams):
    exchange = Exchange([5, 7], 8, learned=True)
    with torch.no_grad():
        exchange.weight.fill_(1.2)
    exchange(exchange.projected(streams)).square().sum().backward()

    assert exchange.weight == 1
    assert exchange.weight.grad.abs() > 0


def test_the_papers_exchange_of_two_streams_is_concatenation_in_another_order(streams):
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


def test_unknown_sex_has_its_own_encoding_which_only_cases_of_unknown_sex_train():
    gate = SexGate(4)
    sexes = torch.tensor([Sex.FEMALE, Sex.MALE, Sex.UNKNOWN])
    assert len(torch.unique(gate(torch.zeros(3, 4), sexes), dim=0)) == 3

    gate(torch.zeros(2, 4), sexes[:2]).sum().backward()
    assert gate.unknown.grad.abs().sum() == 0
    gate(torch.zeros(3, 4), sexes).sum().backward()
    assert (gate.unknown.grad > 0).all()


def test_after_training_on_known_sexes_the_age_of_an_unknown_one_is_their_mean():
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


WIDTHS = {"carpal": 5, "hand": 7}
SEX = torch.tensor([Sex.FEMALE, Sex.MALE, Sex.UNKNOWN] * 2)


def test_fusion_is_exchange_then_sex_gates_then_stream_weights_then_concatenation(streams):
    fusion = Fusion(WIDTHS, width=8, exchange=0.3, weights={"hand": 0.5}, sex_at=["projected", "fused", "joined"]).eval()
    gates = fusion.gates
    projected = fusion.exchange.projected(streams)
    projected = torch.stack([gate(x, SEX) for gate, x in zip(gates["projected"], projected, strict=True)])
    carpal, hand = (gate(x, SEX) for gate, x in zip(gates["fused"], fusion.exchange(projected), strict=True))
    joined = gates["joined"][0](torch.cat([carpal, 0.5 * hand], dim=1), SEX)
    fused = fusion(streams, SEX)

    assert_close(fused.joined, joined)
    assert_close(fused.alone, projected)
    assert fusion.joined_width == fused.joined.shape[1] == 16


@pytest.mark.parametrize("count", [1, 3])
def test_fusion_takes_any_number_of_streams(count):
    widths = {f"region{i}": 4 + i for i in range(count)}
    fusion = Fusion(widths, width=8)
    fused = fusion([torch.randn(6, width) for width in widths.values()], SEX)

    assert fused.joined.shape == (6, 8 * count)
    assert fused.alone.shape == (count, 6, 8)


def test_the_features_of_a_stream_alone_have_the_sex_of_fused_ones_and_no_exchange(streams):
    fusion = Fusion(WIDTHS, width=8).eval()
    projected = fusion(streams, SEX).alone
    expected = [gate(x.relu(), SEX) for gate, x in zip(fusion.gates["fused"], projected, strict=True)]

    assert_close(fusion.alone(projected, SEX), torch.stack(expected))


def test_the_penalty_is_the_weighted_sparsity_in_channel_mode_and_zero_otherwise():
    fusions = {mode: Fusion(WIDTHS, width=8, mode=mode, sparsity=0.25) for mode in ("whole", "channel", "none")}
    for fusion in fusions.values():
        with torch.no_grad():
            for norm in fusion.exchange.norms:
                norm.weight.copy_(torch.tensor([1.0, -2, 3, 4, 5, 6, 7, 8]))

    assert fusions["channel"].penalty().item() == 0.25 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8)
    assert fusions["channel"].penalty().requires_grad
    assert fusions["whole"].penalty() == fusions["none"].penalty() == 0
    assert Fusion({"hand": 7}, width=8, mode="channel").penalty() == 0


def test_the_share_of_exchanged_channels_is_listed_in_channel_mode(streams):
    fusion = Fusion(WIDTHS, width=8, mode="channel", alpha_learned=False)
    with torch.no_grad():
        fusion.exchange.norms[0].weight[1] = 1e-4

    assert fusion.learned_weights() == {"exchanged_share": pytest.approx(1 / 8)}
