"""What one agrees to by using the Natural Scenes Dataset, in short."""

from __future__ import annotations

TERMS_URL = "https://cvnlab.slite.page/p/IB6BSeW_7o/Terms-and-Conditions"
"""The full terms, which alone are binding: a page of the NSD Data Manual."""

AGREEMENT_URL = "https://docs.google.com/forms/d/e/1FAIpQLSduTPeZo54uEMKD-ihXmRhx0hBDdLHNsVyeo_kCb8qbyAkXuQ/viewform"
"""The Data Access Agreement: a form that everyone who uses the data sends in, linked from naturalscenesdataset.org."""

TERMS = f"""\
The Natural Scenes Dataset has terms of use. This is a summary; the full text is binding:
  {TERMS_URL}
Everyone who uses the data first sends in the Data Access Agreement:
  {AGREEMENT_URL}
You agree to use the data for research and teaching only, and not to sell them or make money from them;
to pass no part of them on, and to see that all who work with you keep these terms;
not to look for the participants' identity or health records, and to report what you come upon by chance;
to keep the law and the rules of your institution and its review board. The data come without warranty or liability.
The pictures are from COCO, which does not own them; Flickr's terms hold: https://cocodataset.org/#termsofuse
What you publish cites Allen et al. 2022, https://doi.org/10.1038/s41593-021-00962-x, and thanks those who paid
for the data: NSF IIS-1822683 and NSF IIS-1822929."""
"""The terms in short, shown before anything is fetched; source: `TERMS_URL`."""

ACCEPTED = ".terms-accepted.json"
"""File at the root of a fetched folder that says when they were accepted."""
