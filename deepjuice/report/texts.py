"""What the page says in words."""

from __future__ import annotations

COMPARISONS = {"pearson": "Pearson's r", "spearman": "Spearman's rank correlation"}
METRICS = {
    "eReg": (
        "Encoding regression (eReg)",
        "A ridge regression predicts every voxel from the layer; the score is Pearson's r of predicted and measured "
        "responses to the test images, averaged over the region's voxels. Train scores are those of leave-one-out "
        "predictions. Of a voxel without signal these are negative by nature (each is close to the mean of the other "
        "images, which lies below the overall mean where the image itself lies above), so a train score below the "
        "test score is no mistake.",
    ),
    "cRSA": (
        "Classical RSA (cRSA)",
        "Nothing is fitted: the score is {comparison} of the test images' dissimilarities in the layer with those in "
        "the region. Its ceiling is how well the mean of all subjects' dissimilarities matches the subject's.",
    ),
    "eRSA": (
        "Encoding RSA (eRSA)",
        "The score is {comparison} of the dissimilarities of the responses that the regression predicts with those of "
        "the measured ones. Its ceiling is that of cRSA.",
    ),
    "pRSA": (
        "RSA of influence profiles (pRSA)",
        "Nothing is fitted: the score is {comparison} of the test images' dissimilarities by the neurons that carried "
        "the network's answer (1 - Jaccard) with those in the region. Layers are those that profiles have; other maps "
        "have no score. Its ceiling is that of cRSA.",
    ),
}
QUESTION = (
    "Which layer of which network predicts which region of visual cortex, and how much of what can be predicted at "
    "all? Networks and brains saw the same images; every layer is compared with every region of every subject."
)
HOW_TO_READ = (
    "Each panel is a region; from left to right a curve runs through one network, and its height is the score on "
    "images that took no part in fitting. Depth goes from 0 (the network's first call of a module) to 1 (the last) "
    "over all calls; a map that repeats another is left out, so a curve may end before 1. Thick lines are means over "
    "subjects, thin lines or bands the subjects; the dot marks the layer that scored best on the train images, and "
    "only that layer's test score enters the tables. The line through the dot is the 95 % interval of the best layer: "
    "images are drawn anew with replacement, on train to choose the layer and on test to score it, so that the choice "
    "is part of it. With six subjects or more these are drawn as well; with fewer the interval says nothing about "
    "other subjects. The dashed line is the noise ceiling: what a perfect model could reach, given how reliable the "
    "measurement is."
)
LAYERS = (
    "Of every map, over all images and before any projection. {metric} on test is the mean over regions and subjects. "
    "Effective dimensionality says over how many dimensions the responses to the images spread. Dead features are 0 "
    "for every image. Population sparseness is that of Treves &amp; Rolls (1991), which is small where few features "
    "are active, and that of Hoyer (2004), which is large there; both are of magnitudes, image by image, averaged."
)
HISTOGRAMS = (
    "All values of every layer, layers from left to right; darker is a larger share of a layer's values (share 1 is "
    "darkest, on a square-root scale). The vertical axis goes by factors of two to both sides of zero, and its middle "
    "step holds all magnitudes below 2<sup>−16</sup>. Dots are means, lines one standard deviation above and below."
)
LEFT_OUT = (
    "<strong>Of {n_networks} networks the figures show {n_drawn}</strong>: those that rank highest in any metric, by "
    "the train score of their best layers, averaged over subjects and regions. Tables list the {n_rows} with the best "
    "train score in each region, in that order. By train scores, because of so many networks the best on test owe "
    "their place to chance, too. All networks are in scores.parquet and best_layers.csv (links below)."
)
RUN_OF_DRAWN = "Of the networks in the figures; of all it is in scores.nc (<code>model_attrs</code>)."
COMPARED_ALL = "every two networks' best layers against each other"
COMPARED_WITH_BEST = "every network's best layer against that of the best network, a row a metric, region and subject"
ALPHAS_AT_EDGES = (
    "A fit is one layer's prediction of one voxel, with a ridge penalty (alpha) of its own, chosen from a grid. Fits "
    "at the highest alpha are those of voxels that the layer does not predict. Fits at the lowest are best predicted "
    "without a penalty, and a wider grid leaves most of them there: with many more features than images the best "
    "penalty can be zero or even negative (Kobak, Lomond &amp; Sanchez 2020, Journal of Machine Learning Research "
    "21(169))."
)
LABELS = {
    "alphas_at_lowest": "fits at the lowest alpha",
    "alphas_at_highest": "fits at the highest alpha",
}
